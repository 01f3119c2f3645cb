"""The MCP face: listeners, the gateway, its own tools, settings and the command line."""
