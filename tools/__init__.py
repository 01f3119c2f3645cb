"""The unified tool library: what is installed, registered and callable, kept in one store."""
