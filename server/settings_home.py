"""Which folder is the home: `--home`, else the environment, else where the platform keeps users' data.

Standard library only, and platformdirs where nothing is given: a client that joins a running ToolScore asks
this before anything heavy is loaded.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "TOOLSCORE_HOME"


def resolve(given: str | None, environ: Mapping[str, str], problems: list[str]) -> tuple[Path, str]:
    """Find the home, without touching it.

    Args:
        given: `--home` of the command line.
        environ: The environment. A variable that is empty counts as unset.
        problems: What is wrong is added here; a folder is given all the same, so that others can be looked for.

    Returns:
        Its absolute path, and where that comes from.
    """
    if given is not None:
        origin, text = "command line --home", given.strip()
    elif text := environ.get(VARIABLE, "").strip():
        origin = f"environment variable {VARIABLE}"
    else:
        from platformdirs import user_data_dir

        origin, text = "default", user_data_dir("toolscore", appauthor=False)
    if not text:
        problems.append(f"home is empty ({origin}). Name a folder, or leave it out for the default.")
        text = "."
    if "\0" in text:
        problems.append(f"home = {text!r:.60} ({origin}) holds a NUL character. Name a folder.")
        text = "."
    try:
        return Path(os.path.abspath(Path(text).expanduser())), origin  # noqa: PTH100 - tidies `..`, keeps links
    except RuntimeError as error:
        problems.append(f"home = {text} ({origin}): {error} Write the path in full.")
    except OSError:
        problems.append(
            f"home = {text} ({origin}): the working directory is not there any more. Write the path in full."
        )
    return Path(os.sep), origin
