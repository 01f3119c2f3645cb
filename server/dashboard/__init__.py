"""The dashboard: one page for browsers, which is an MCP client itself, and how its parts are put together."""
