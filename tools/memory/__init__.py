"""The bundled server `memory`: conversations kept for each user, found again by words or by meaning.

A process of its own, `python -m toolscore.tools.memory`, and an MCP server for any client.
"""
