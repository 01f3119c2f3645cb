"""Installers: from a source as somebody wrote it to an environment and the command that starts it."""
