"""Writes what of the documentation is made from the code: docs/reference, and docs/images/*.svg.

`--check` writes nothing and names what is out of step.

.venv/bin/python docs/making/reference.py [--check]
"""

from __future__ import annotations

import sys
from pathlib import Path

import drawings
import reference_commands
import reference_errors
import reference_settings
import reference_tools

DOCS = Path(__file__).resolve().parents[1]
COMMAND = "make reference"
_NOTE = "<!-- Written by `make reference` from the code. Change the code, not this page. -->\n\n"


def made() -> dict[Path, str]:
    """Give every file that is written, by its path."""
    pages = {
        "settings.md": reference_settings.page(),
        "tools.md": reference_tools.page(),
        "commands.md": reference_commands.page(),
        "errors.md": reference_errors.page(),
    }
    texts = {DOCS / "reference" / name: _NOTE + text.rstrip() + "\n" for name, text in pages.items()}
    return texts | {DOCS / "images" / name: text for name, text in drawings.drawings().items()}


def main() -> int:
    """Write the files, or say which are out of step.

    Returns:
        The exit status: 1 if `--check` finds one.
    """
    texts = made()
    left = set(DOCS.glob("reference/*.md")) - texts.keys()
    if "--check" in sys.argv[1:]:
        lost = left | {
            path for path, text in texts.items() if not path.exists() or path.read_text("utf-8") != text
        }
        for path in sorted(lost):
            print(f"{path.relative_to(DOCS.parent)} is not what the code says. Run `{COMMAND}`.")
        return 1 if lost else 0
    for path in left:
        path.unlink()
    for path, text in texts.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
