"""The entry point of the bundle: ToolScore, as its package in this bundle has it."""

from toolscore.__main__ import main

if __name__ == "__main__":
    main()
