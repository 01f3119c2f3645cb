"""The `.mcpb` bundle: a manifest, and ToolScore as a project of which uv makes the environment.

The format: https://github.com/modelcontextprotocol/mcpb/blob/main/MANIFEST.md, version 0.4, whose server type `uv`
leaves Python and the dependencies to the uv of the client.
"""

from __future__ import annotations

import email
import json
import time
import zipfile
from pathlib import Path

PARTS = Path(__file__).with_name("mcpb")

_PROJECT = """\
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = "toolscore"
version = "{version}"
requires-python = "{python}"
dependencies = [
{needs}]

[project.scripts]
toolscore = "toolscore.__main__:main"

[tool.hatch.build.targets.wheel]
packages = ["toolscore"]
"""


class BundleError(Exception):
    """What is to go into the bundle does not fit together; the text says what."""


def make(wheel: Path, version: str, license: Path, when: int) -> Path:
    """Write the bundle beside the wheel.

    Args:
        wheel: ToolScore's wheel.
        version: Its version.
        license: The file with the licence.
        when: What its files are dated, in seconds since 1970.

    Returns:
        The bundle: the same bytes for the same arguments.

    Raises:
        BundleError: If the manifest is of another version, or of another Python.
    """
    text = (PARTS / "manifest.json").read_bytes()
    manifest = json.loads(text)
    if manifest["version"] != version:
        raise BundleError(
            f"deploy/mcpb/manifest.json is of {manifest['version']}, and the package of {version}."
        )
    with zipfile.ZipFile(wheel) as zipped:
        files = {name: zipped.read(name) for name in zipped.namelist() if name.startswith("toolscore/")}
        about = email.message_from_bytes(zipped.read(f"toolscore-{version}.dist-info/METADATA"))
    python = manifest["compatibility"]["runtimes"]["python"]
    if python != about["Requires-Python"]:
        raise BundleError(f"deploy/mcpb/manifest.json is for Python {python}, which the package is not.")
    # Those of extras have a marker that only they fulfil.
    needs = [need for need in about.get_all("Requires-Dist", []) if "extra ==" not in need]
    project = _PROJECT.format(
        version=version, python=python, needs="".join(f"    {json.dumps(need)},\n" for need in needs)
    )
    files |= {
        "LICENSE": license.read_bytes(),
        "manifest.json": text,
        "pyproject.toml": project.encode(),
        "server/main.py": (PARTS / "main.py").read_bytes(),
    }
    path = wheel.with_name(f"toolscore-{version}.mcpb")
    # Zips know no time before 1980, and none of a zone.
    dated = max(time.gmtime(when)[:6], (1980, 1, 1, 0, 0, 0))
    with zipfile.ZipFile(path, "w") as zipped:
        for name, content in sorted(files.items()):
            member = zipfile.ZipInfo(name, dated)
            member.external_attr = 0o644 << 16
            member.compress_type = zipfile.ZIP_DEFLATED
            zipped.writestr(member, content)
    return path
