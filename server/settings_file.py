"""Reading the settings file, TOML or JSON, into flat dotted keys."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

SERVERS = "mcpServers"
"""The table of servers, which is no group of settings."""


class FileProblem(Exception):
    """The file cannot be read at all; the text says why and what to do."""


def read(path: Path) -> dict[str, Any]:
    """Read a settings file.

    Args:
        path: Its path; JSON where the name ends in `.json`, TOML otherwise.

    Returns:
        Its values by dotted key, one level deep: `{"process.timeout": 5, "stray": 1}`. What is under `mcpServers`
        stays as it is.

    Raises:
        FileNotFoundError: If there is none.
        NotADirectoryError: If there can be none, as a file stands where a folder should.
        FileProblem: If it cannot be read or is not well-formed.
    """
    is_json = path.suffix.lower() == ".json"
    try:
        # utf-8-sig: editors on Windows write a byte-order mark that both parsers refuse.
        text = path.read_bytes().decode("utf-8-sig")
        found = json.loads(text) if is_json else tomllib.loads(text)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise FileProblem(
            f"cannot be read: {error.strerror or error}. Make it readable, or name another"
        ) from error
    except UnicodeDecodeError as error:
        raise FileProblem(f"is not UTF-8 (byte {error.start}). Save it as UTF-8") from error
    except (tomllib.TOMLDecodeError, json.JSONDecodeError) as error:
        kind = "JSON" if is_json else "TOML"
        raise FileProblem(
            f"is not valid {kind}: {error}. Correct it there; `toolscore config template` shows the form"
        ) from error
    except RecursionError as error:
        raise FileProblem("is nested too deeply. Settings are one table deep") from error
    if not isinstance(found, dict):
        raise FileProblem('must hold an object, such as {"process": {"timeout": 300}}')
    flat: dict[str, Any] = {}
    for group, value in found.items():
        if isinstance(value, dict) and group != SERVERS:
            flat |= {f"{group}.{name}": leaf for name, leaf in value.items()}
        else:
            flat[group] = value
    return flat
