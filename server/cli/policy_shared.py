"""`policy shared` and `policy share`: the policy that gateways with one store have in common."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from ..database_home import store_of
from ..home import Home
from ..settings import Settings
from .output import Output


async def run(options: Namespace, settings: Settings, out: Output) -> int:
    """Show it, or put another one in its place.

    Returns:
        The exit status: 1 where it was not put there, 3 where the database cannot be used.
    """
    from ...tools.errors import OverwrittenError, StoreError

    where = store_of(settings, Home.at(settings.home))
    if isinstance(where, Path):
        out.error("The store of this home is not shared: database.url is not set for this command.")
        return 1
    try:
        if options.what == "shared":
            return await _show(where, out)
        return await _put(where, Path(options.words[0]), options.replaces, out)
    except OverwrittenError as error:
        out.error(str(error))
        return 1
    except StoreError as error:
        out.error(str(error))
        return 3


async def _show(where: str, out: Output) -> int:
    from ...tools.common import Common
    from ...tools.store import Store
    from ..policy_common import KIND

    store = await Store.open(where)
    try:
        found = await Common(store).get(KIND, "")
    finally:
        await store.close()
    if out.json_wanted:
        out.document({"version": found.version if found else 0, "text": found.body if found else None})
    elif found is None:
        out.line("there is no common policy: each gateway keeps to the file in its home")
    else:
        out.remark(f"version {found.version}")
        out.line(found.body.rstrip("\n"))
    return 0


async def _put(where: str, path: Path, replaces: int | None, out: Output) -> int:
    from ...tools.common import Common
    from ...tools.policy.errors import PolicyError
    from ...tools.policy.reading import read
    from ...tools.store import Store
    from ..policy_common import KIND

    try:
        read(path)
        text = path.read_bytes().decode()
    except FileNotFoundError:
        out.error(f"{path}: there is no such file. `toolscore policy template` prints one to begin with.")
        return 1
    except PolicyError as error:
        out.error(f"The policy cannot be used, so that all is as it was:\n{error}")
        return 1
    store = await Store.open(where)
    try:
        common = Common(store)
        found = await common.get(KIND, "")
        now = found.version if found is not None else 0
        if replaces is None and found is not None:
            out.error(
                f"There is a common policy already, version {now}. `toolscore policy shared` shows it; give "
                f"--replaces {now} to put this one in its place."
            )
            return 1
        version = await common.put(KIND, "", text, "owner", now if replaces is None else replaces)
    finally:
        await store.close()
    if out.json_wanted:
        out.document({"version": version})
    else:
        out.line(f"all gateways keep to {path} now (version {version})")
    return 0
