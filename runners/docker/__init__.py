"""Servers as containers of a Docker engine, over its API; the extra `toolscore[docker]`."""
