"""What tests fetch once and keep between runs: programs of others, below the user's cache folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import platformdirs

CACHE = Path(platformdirs.user_cache_dir("toolscore-tests"))


def once(name: str, make: Callable[[Path], None]) -> Path:
    """Give a folder of the cache, made in a place of its own and moved there if it was missing."""
    folder = CACHE / name
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=CACHE))
        try:
            make(made)
            made.rename(folder)
        except OSError:
            # Somebody else was faster.
            if not folder.exists():
                raise
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return folder
