"""What a ToolScore that was killed left at the engine: known by its labels, read once more, removed."""

from __future__ import annotations

import asyncio
import calendar
import json
import logging
import time

from ..errors import RunnerError
from ..logs import Logs
from .config import HOME_LABEL, INSTANCE_LABEL, OWNER_LABEL, SERVER_LABEL
from .engine import Engine, EngineError
from .follower import Follower

logger = logging.getLogger(__name__)


async def left_behind(engine: Engine, home: str, owner: str) -> list[dict[str, str]]:
    """Find the containers of a home that another life of its ToolScore made.

    Args:
        engine: The engine.
        home: The home's id.
        owner: What the present life is called.

    Returns:
        The labels of each, with its id as `id`.
    """
    filters = json.dumps({"label": [f"{HOME_LABEL}={home}"]})
    found = await engine.ask("GET", "/containers/json", params={"all": True, "filters": filters})
    return [{**one["Labels"], "id": one["Id"]} for one in found if one["Labels"].get(OWNER_LABEL) != owner]


def server_of(labels: dict[str, str]) -> str:
    """Tell by the labels of a container which server, or which instance of it, it is."""
    name, number = labels.get(SERVER_LABEL, ""), labels.get(INSTANCE_LABEL, "1")
    return name if number == "1" else f"{name}#{number}"


async def sweep(engine: Engine, home: str, owner: str, logs: Logs) -> list[str]:
    """Remove them; what they wrote since their last line in a log is put there first.

    Args:
        engine: The engine.
        home: The home's id.
        owner: What the present life is called.
        logs: The servers' logs.

    Returns:
        Names of the servers whose containers were removed.
    """
    found = await left_behind(engine, home, owner)
    done = await asyncio.gather(*(_remove(engine, one, logs) for one in found))
    return sorted({name for name in done if name})


async def _remove(engine: Engine, labels: dict[str, str], logs: Logs) -> str:
    name, server_id = labels.get(SERVER_LABEL, ""), server_of(labels)
    try:
        # First ended, so that its log is whole.
        try:
            await engine.ask("POST", f"/containers/{labels['id']}/stop", params={"t": 1})
        except EngineError as error:
            if error.status not in (304, 404):
                raise
        await _keep_last_lines(engine, labels["id"], server_id, logs)
        await engine.ask("DELETE", f"/containers/{labels['id']}", params={"force": True, "v": True})
    except EngineError as error:
        if error.status not in (404, 409):
            logger.warning("server %s: what was left of it could not be removed: %s", server_id, error)
            return ""
    return name


async def _keep_last_lines(engine: Engine, container: str, server_id: str, logs: Logs) -> None:
    log = logs.of(server_id)
    last = _last_written(logs, server_id.partition("#")[0])

    def take(line: str, at: float, stream: int) -> None:
        if stream == 2 and at > last:
            log.write(line, at)

    reader = Follower(engine, container, take, ended=lambda: True)
    reader.since_time(last)
    reader.hurry()
    try:
        await reader.run(follow=False)
    except RunnerError as error:
        logger.debug("server %s: its last lines cannot be read: %s", server_id, error)
    log.close()


def _last_written(logs: Logs, name: str) -> float:
    """Give when the last line of a log was written, in seconds since 1970; 0 where there is none."""
    from ..log_read import LogFolder

    found, _place = LogFolder(logs.folder).tail(name, 1)
    if not found:
        return 0.0
    stamp = found[-1].time
    try:
        whole = calendar.timegm(time.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S"))
        # A log has milliseconds, cut off: the line itself must not come again.
        return whole + float(f"0{stamp[19:].rstrip('Z')}") + 0.001
    except ValueError:
        return 0.0
