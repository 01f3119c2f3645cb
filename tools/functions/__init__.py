"""Functions that were registered as tools: what their source says of them, their versions, how they are run."""
