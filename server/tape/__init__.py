"""Recordings of what clients asked and were answered, and answering from them without any server."""
