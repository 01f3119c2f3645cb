"""Servers that need others, groups of them, who uses a server, and what can be set for one while it runs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import faulty, runner_at, supervising, until
from toolscore.runners.keeping import Keeping
from toolscore.runners.lifecycle import RestartPolicy, State
from toolscore.runners.supervisor import NotReadyError
from toolscore.tools.caller import CALL, OWNER, Caller
from toolscore.tools.configure import configure
from toolscore.tools.groups import (
    cycle,
    dependents,
    members,
    needed,
    problem,
    resolve_names,
    spelled,
    start_order,
)
from toolscore.tools.library import Library
from toolscore.tools.manage import Action, Managed, manage
from toolscore.tools.outcome import Outcome, RefusalError
from toolscore.tools.router import Router
from toolscore.tools.rows import ServerRow
from toolscore.tools.secrets import Secrets
from toolscore.tools.servers import Servers
from toolscore.tools.state import state_of
from toolscore.tools.store import Store

NEEDS = {"web": ["api"], "api": ["db", "cache"], "db": [], "cache": [], "other": []}
SHOP = {
    "web": Keeping(depends_on=("api",), groups=("shop",)),
    "api": Keeping(depends_on=("db",), groups=("shop",)),
    "db": Keeping(groups=("shop", "data")),
    "other": Keeping(),
}
ANN = Caller("ann", "unix", connection=7)
GIVE_UP = RestartPolicy(limit=0)


# --- names and order -------------------------------------------------------------------------------------


def test_what_is_needed_starts_in_an_earlier_wave() -> None:
    assert start_order(NEEDS, NEEDS) == [["cache", "db", "other"], ["api"], ["web"]]


def test_the_order_of_two_servers_counts_what_lies_between_them() -> None:
    assert start_order(["web", "db"], NEEDS) == [["db"], ["web"]]


def test_needs_and_dependents_are_found_by_way_of_others() -> None:
    assert needed(["web"], NEEDS) == {"web", "api", "db", "cache"}
    assert dependents("db", NEEDS) == ["api", "web"]
    assert dependents("web", NEEDS) == []


def test_a_circle_is_found_and_spelled_out() -> None:
    circle = cycle({"a": ["b"], "b": ["a"], "c": ["a"]})
    assert circle is not None
    assert spelled(circle) in ("a needs b needs a", "b needs a needs b")
    assert cycle(NEEDS) is None
    with pytest.raises(ValueError, match="a needs a"):
        start_order(["a"], {"a": ["a"]})


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.sets(st.sampled_from("abcdefgh"))))
def test_any_needs_are_either_a_circle_or_can_be_put_in_order(needs: dict[str, set[str]]) -> None:
    circle = cycle(needs)
    if circle is not None:
        assert all(after in needs[before] for before, after in pairwise(circle))
        return
    waves = start_order(needs, needs)
    when = {name: number for number, wave in enumerate(waves) for name in wave}
    assert when.keys() == needs.keys()
    for name in needs:
        assert all(when[need] < when[name] for need in needed([name], needs) - {name} if need in when)


def test_a_name_stands_for_a_server_a_group_or_all() -> None:
    assert members("shop", SHOP) == ["api", "db", "web"]
    assert resolve_names("db", SHOP) == ["db"]
    assert resolve_names("@shop", SHOP) == ["api", "db", "web"]
    assert resolve_names("*", SHOP) == ["api", "db", "other", "web"]


@pytest.mark.parametrize(
    ("what", "said"), [("@shpo", "There are: @data, @shop"), ("dv", "There are: api, db, other, web")]
)
def test_a_name_that_stands_for_nothing_is_answered_with_those_there_are(what: str, said: str) -> None:
    with pytest.raises(RefusalError, match=said) as refusal:
        resolve_names(what, SHOP)
    assert refusal.value.outcome is Outcome.UNKNOWN_SERVER


@pytest.mark.parametrize(
    ("keeping", "said"),
    [
        (Keeping(depends_on=("web",)), "for ever: .*needs"),
        (Keeping(depends_on=("db",)), "db needs db"),
        (Keeping(depends_on=("nobody",)), "no server named 'nobody'. There are: api, other, web"),
        (Keeping(groups=("@shop",)), "without the '@'"),
        (Keeping(groups=("",)), "cannot be a group's name"),
    ],
)
def test_needs_and_groups_that_cannot_be_are_told(keeping: Keeping, said: str) -> None:
    found = problem("db", keeping, SHOP)
    assert found is not None
    assert re.search(said, found), found
    assert problem("new", Keeping(depends_on=("web",), groups=("shop",)), SHOP) is None


# --- a house of real servers -----------------------------------------------------------------------------


class House:
    """Servers of a home, and what happened to them in which order."""

    def __init__(self, servers: Servers) -> None:
        self.servers = servers
        self.router = Router(servers.library, servers.supervisor)
        self.history: list[tuple[str, State]] = []

        def changed(unit: Any) -> None:
            if not self.history or self.history[-1] != (unit.name, unit.life.state):
                self.history.append((unit.name, unit.life.state))

        servers.supervisor.on_change = changed

    def came(self, state: State) -> list[str]:
        """The servers in the order they came into a state."""
        return [name for name, reached in self.history if reached is state]

    def state(self, name: str) -> State:
        return self.servers.supervisor.units[name].life.state

    async def manage(self, what: str, action: Action, caller: Caller = OWNER, **more: bool) -> list[Managed]:
        return await asyncio.wait_for(manage(self.servers, what, action, caller, **more), 20)

    async def refused(self, what: str, action: Action, caller: Caller = OWNER) -> str:
        with pytest.raises(RefusalError) as refusal:
            await self.manage(what, action, caller)
        return refusal.value.message

    async def set(self, name: str, **settings: Any) -> Any:
        return await configure(self.servers, name, settings, OWNER)


@asynccontextmanager
async def house(folder: Path, keepings: dict[str, Keeping], **faults: str) -> AsyncIterator[House]:
    """A house with a faulty server of each name, none of them started."""
    runner = runner_at(folder)
    store = await Store.open(folder / "store.db")
    try:
        async with supervising(folder, runner, policy=GIVE_UP) as supervisor:
            library = Library(store)
            for name, keeping in keepings.items():
                given_faults = (faults[name],) if name in faults else ()
                installation = faulty(*given_faults, name=name).model_copy(update={"keeping": keeping})
                await library.add(
                    ServerRow(name=name, origin="cli", enabled=True, installation=installation),
                    [{"name": "sleep"}],
                )
            servers = Servers(
                library, supervisor, runner, Secrets(folder / "secrets.json"), folder / "servers"
            )
            servers.bring_back(start=False)
            yield House(servers)
    finally:
        await store.close()


async def test_a_group_starts_in_the_order_of_its_needs_and_stops_the_other_way_round(tmp_path: Path) -> None:
    async with house(tmp_path, SHOP) as made:
        managed = await made.manage("@shop", "start")
        assert [(one.name, one.state, one.reason) for one in managed] == [
            ("api", State.READY, None),
            ("db", State.READY, None),
            ("web", State.READY, None),
        ]
        assert made.came(State.READY) == ["db", "api", "web"]
        assert made.state("other") is State.STOPPED
        # Each was READY before the next began.
        assert made.history.index(("db", State.READY)) < made.history.index(("api", State.STARTING))
        managed = await made.manage("@shop", "stop")
        assert {one.state for one in managed} == {State.STOPPED}
        assert made.came(State.STOPPED) == ["web", "api", "db"]


async def test_what_a_group_needs_outside_of_it_is_started_too(tmp_path: Path) -> None:
    async with house(tmp_path, SHOP) as made:
        await made.set("db", groups=["data"])
        assert [one.name for one in await made.manage("@shop", "start")] == ["api", "web"]
        assert made.state("db") is State.READY


async def test_a_member_that_fails_keeps_only_those_from_starting_that_need_it(tmp_path: Path) -> None:
    keepings = {**SHOP, "other": Keeping(groups=("shop",))}
    async with house(tmp_path, keepings, api="exit-on-start=7") as made:
        found = {one.name: one for one in await made.manage("@shop", "start")}
        assert found["db"].state is State.READY
        assert found["other"].state is State.READY
        assert found["api"].state is State.FAILED
        assert "status 7" in str(found["api"].reason)
        assert "not started, as it needs 'api'" in str(found["web"].reason)
        assert made.state("web") is State.STOPPED


async def test_a_server_that_needs_a_disabled_one_says_so(tmp_path: Path) -> None:
    async with house(tmp_path, SHOP) as made:
        await made.manage("db", "disable")
        said = await made.refused("api", "start")
        assert "it needs 'db'" in said
        assert "manage_server(name='db', action='enable')" in said
        assert [one.state for one in await made.manage("@shop", "enable")] == [State.READY] * 3


async def test_a_server_that_others_run_on_is_not_stopped_unless_forced(tmp_path: Path) -> None:
    async with house(tmp_path, SHOP) as made:
        await made.manage("@shop", "start")
        for action in ("stop", "restart", "disable"):
            said = await made.refused("db", action)
            assert "server 'api' needs 'db'; server 'web' needs 'db'" in said
            assert "force=true" in said
        assert made.servers.library.servers["db"].enabled
        # The group as a whole needs nobody's leave, nor does one whose dependents are down.
        await made.manage("@shop", "restart")
        await made.manage("web", "stop")
        await made.manage("api", "stop")
        await made.manage("db", "stop")
        await made.manage("@shop", "start")
        assert [one.state for one in await made.manage("db", "stop", force=True)] == [State.STOPPED]


async def test_a_server_at_work_for_another_client_is_not_stopped_unless_forced(tmp_path: Path) -> None:
    async with house(tmp_path, {"db": Keeping()}) as made:
        call = asyncio.create_task(made.router.call("db__sleep", {"seconds": 30}, ANN))
        unit = made.servers.supervisor.units["db"]
        await until(lambda: unit.session is not None and unit.session.in_flight)
        said = await made.refused("db", "stop", replace(ANN, principal="bob", connection=8))
        assert "1 call of another client under way on 'db'" in said
        await made.manage("db", "stop", ANN)  # its own
        with pytest.raises(RefusalError):
            await call


async def test_a_server_that_others_need_is_not_removed_unless_forced(tmp_path: Path) -> None:
    async with house(tmp_path, SHOP) as made:
        with pytest.raises(RefusalError, match="server 'api' needs 'db'"):
            await made.servers.remove("db", OWNER)
        await made.servers.remove("db", OWNER, force=True)
        assert "no server named 'db'" in await made.refused("api", "start")
        state = await state_of(made.servers, "api")
        assert [one.model_dump() for one in state.depends_on] == [{"name": "db", "state": "not there"}]


async def test_what_is_set_for_a_server_counts_at_once_and_outlives_a_restart(tmp_path: Path) -> None:
    async with house(tmp_path, SHOP) as made:
        await made.manage("other", "start")
        pid = (await state_of(made.servers, "other")).pids
        done = await made.set("other", timeout=7, max_queue="3", groups="shop, night")
        assert done.changed == ("timeout", "max_queue", "groups")
        assert done.notes == ()
        state = await state_of(made.servers, "other")
        assert state.pids == pid
        assert (state.keeping["timeout"], state.keeping["max_queue"]) == (7, 3)
        assert state.own == ["groups", "max_queue", "timeout"]
        assert state.groups == ["shop", "night"]
        await made.set("other", timeout=None)
        assert made.servers.supervisor.units["other"].kept.timeout == 300
        again = Library(made.servers.library._store)
        await again.load()
        assert again.servers["other"].installation.keeping == Keeping(max_queue=3, groups=("shop", "night"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"timeout": -1}, "timeout: Input should be greater than 0"),
        ({"timeuot": 1}, "no setting named timeuot. There are: start, "),
        ({"isolation": "alone"}, "isolation: Input should be 'shared'"),
        ({"depends_on": ["web"]}, "they would wait for each other for ever: "),
        ({"depends_on": "nobody"}, "no server named 'nobody'"),
    ],
)
async def test_what_cannot_be_set_changes_nothing(
    tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    async with house(tmp_path, SHOP) as made:
        with pytest.raises(RefusalError, match="Nothing was set for 'db'") as refusal:
            await made.set("db", idle_timeout=5, **settings)
        assert refusal.value.outcome is Outcome.INVALID_ARGUMENTS
        assert made.servers.library.servers["db"].installation.keeping == SHOP["db"]
        assert said in refusal.value.message


async def test_what_takes_effect_later_is_said(tmp_path: Path) -> None:
    async with house(tmp_path, SHOP) as made:
        await made.manage("db", "disable")
        notes = " ".join((await made.set("other", depends_on=["db"], start="use")).notes)
        assert "depends_on takes effect at its next start" in notes
        assert "start takes effect when ToolScore starts the next time" in notes
        assert "'db' is disabled" in notes


async def test_two_who_set_something_at_once_both_have_their_way(tmp_path: Path) -> None:
    async with house(tmp_path, SHOP) as made:
        await asyncio.gather(made.set("db", timeout=5), made.set("db", max_queue=6))
        assert made.servers.library.servers["db"].installation.keeping == Keeping(
            timeout=5, max_queue=6, groups=("shop", "data")
        )


async def test_a_server_of_the_configuration_file_is_set_there_and_only_who_may_sets_anything(
    tmp_path: Path,
) -> None:
    async with house(tmp_path, SHOP) as made:
        library = made.servers.library
        library.servers["db"] = replace(library.servers["db"], origin="file")
        with pytest.raises(RefusalError, match=r"under mcpServers\.db"):
            await made.set("db", timeout=5)
        with pytest.raises(RefusalError, match="'guest' may not"):
            await configure(
                made.servers, "web", {"timeout": 5}, Caller("guest", "http", rights=frozenset({CALL}))
            )


async def test_the_state_of_a_server_says_what_it_does_and_what_to_do_next(tmp_path: Path) -> None:
    async with house(tmp_path, SHOP, other="exit-on-start=7") as made:
        state = await state_of(made.servers, "db")
        assert (state.state, state.pids, state.uptime) == ("STOPPED", [], None)
        assert "manage_server(name='db', action='start')" in state.next
        await made.manage("web", "start")
        state = await state_of(made.servers, "db")
        assert (state.state, state.enabled, state.reason, state.protocol) == (
            "READY",
            True,
            None,
            "2025-11-25",
        )
        assert state.doing == "It runs, with 0 calls under way."
        assert state.pids
        assert state.memory
        assert state.processes == 1
        assert state.files
        assert state.since.endswith("+00:00")
        assert [(one.name, one.state) for one in state.dependents] == [("api", "READY"), ("web", "READY")]
        with pytest.raises(RefusalError):
            await made.manage("other", "start")
        state = await state_of(made.servers, "other")
        assert (state.state, state.failures) == ("FAILED", 1)
        assert "status 7" in str(state.reason)
        assert state.last_exit is not None
        assert "status 7" in state.last_exit.reason
        assert "server_logs(name='other')" in state.next
        await made.manage("other", "disable")
        state = await state_of(made.servers, "other")
        assert "action='enable'" in state.next
        assert state.doing == "It is disabled, and does not run."


async def test_the_state_of_one_under_installation_says_since_when(tmp_path: Path) -> None:
    async with house(tmp_path, {}) as made:
        with made.servers.hold("new"):
            state = await state_of(made.servers, "new")
        assert (state.state, state.seconds < 10) == ("INSTALLING", True)
        with pytest.raises(RefusalError):
            await state_of(made.servers, "new")


async def test_a_start_by_hand_also_starts_the_instances_of_clients_that_were_given_up(
    tmp_path: Path,
) -> None:
    async with house(tmp_path, {"own": Keeping(isolation="per-client")}) as made:
        unit = made.servers.supervisor.instances("own").take(1)
        broken, sound = faulty("exit-on-start", name="own"), unit.installation
        unit.installation = sound.model_copy(update={"spec": broken.spec})
        with pytest.raises(NotReadyError):
            await unit.ready()
        unit.installation = sound
        await made.manage("own", "start")
        await asyncio.wait_for(unit.ready(), 10)
