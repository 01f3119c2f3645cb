"""The grammar of the command line, a family of commands a file.

All of it is read for every command line, so nothing here imports what commands are made of.
"""
