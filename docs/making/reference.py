"""Writes what of the documentation is made from the code: docs/reference, and docs/images/*.svg.

`--check [DOCS]` writes nothing and names what is out of step, here or in another folder.

.venv/bin/python docs/making/reference.py [--check [DOCS]]
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


def made(docs: Path) -> dict[Path, str]:
    """Give every file that is written into a folder of documents, by its path."""
    pages = {
        "settings.md": reference_settings.page(),
        "tools.md": reference_tools.page(),
        "commands.md": reference_commands.page(),
        "errors.md": reference_errors.page(),
    }
    texts = {docs / "reference" / name: _NOTE + text.rstrip() + "\n" for name, text in pages.items()}
    return texts | {docs / "images" / name: text for name, text in drawings.drawings().items()}


def main() -> int:
    """Write the files, or say which are out of step.

    Returns:
        The exit status: 1 if `--check` finds one.
    """
    check, *given = sys.argv[1:] or [""]
    docs = Path(given[0]).resolve() if given else DOCS
    texts = made(docs)
    left = set(docs.glob("reference/*.md")) - texts.keys()
    if check == "--check":
        lost = left | {
            path for path, text in texts.items() if not path.exists() or path.read_text("utf-8") != text
        }
        for path in sorted(lost):
            print(f"{path.relative_to(docs.parent)} is not what the code says. Run `{COMMAND}`.")
        return 1 if lost else 0
    for path in left:
        path.unlink()
    for path, text in texts.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
