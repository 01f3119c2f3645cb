"""Files of the caller, put into a workspace in which code has been before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from toolscore.sandbox import init


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/x", "a//x", "", ".", "a/"])
def test_a_files_path_stays_in_the_workspace(path: str, tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(ValueError, match="no path in the workspace"):
            init._put(folder, path, b"")
    finally:
        os.close(folder)
    assert list(tmp_path.parent.glob("x")) == []
