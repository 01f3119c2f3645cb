"""Looking through definitions of tools for what poisoning looks like: pure functions, no network, no model."""
