"""The files in which MCP clients keep their servers: found, read, taken over, and given ToolScore's own entry."""
