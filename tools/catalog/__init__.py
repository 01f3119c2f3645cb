"""The catalog of servers that can be installed."""
