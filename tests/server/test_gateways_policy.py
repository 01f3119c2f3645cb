"""One policy for all gateways: taken in by a command, kept to at once, and never a broken one."""

from __future__ import annotations

import os
import subprocess
from functools import partial
from pathlib import Path

from fleet import gateways, until
from postgres import Postgres
from toolscore_client import TOOLSCORE, execute, outcome, register_faulty

REFUSE = '[[rule]]\nwhat = "call"\ntools = "f__echo"\nanswer = "deny"\n'


def policy(home: Path, url: str, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TOOLSCORE_DATABASE_URL": url}
    command = [TOOLSCORE, "--home", str(home), "policy", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


async def test_a_common_policy_holds_at_every_gateway_at_once(tmp_path: Path, postgres: Postgres) -> None:
    url = postgres.database()
    file = tmp_path / "new.toml"
    home = tmp_path / "a" / "home"
    async with gateways(tmp_path, url, "a", "b") as both:
        await register_faulty(both[0], "f")
        for client in both:
            await until(partial(execute, client, "f__echo", text="x"), lambda done: not done.is_error)
        file.write_text("[[rule]]\nanswer = 1\n")
        broken = policy(home, url, "share", str(file))
        assert (broken.returncode, "all is as it was" in broken.stderr) == (1, True)
        file.write_text(REFUSE)
        done = policy(home, url, "share", str(file))
        assert done.returncode == 0, done.stderr
        for client in both:
            await until(
                partial(execute, client, "f__echo", text="x"),
                lambda done: outcome(done) == "refused",
            )

        # What was made from another version is not taken, and what is broken in the store changes nothing.
        again = policy(home, url, "share", str(file))
        assert (again.returncode, "--replaces 1" in again.stderr) == (1, True)
        assert policy(home, url, "share", str(file), "--replaces", "7").returncode == 1
        postgres.execute("UPDATE common SET body = 'what is this', version = 2 WHERE kind = 'policy'", url)
    async with gateways(tmp_path, url, "b") as (b,):
        assert outcome(await execute(b, "f__echo", text="x")) == "refused"
        file.write_text("")
        assert policy(home, url, "share", str(file), "--replaces", "2").returncode == 0
        await until(lambda: execute(b, "f__echo", text="x"), lambda done: not done.is_error)
    assert (tmp_path / "b" / "home" / "policy.shared.toml").stat().st_mode & 0o777 == 0o600
