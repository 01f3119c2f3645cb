"""Tools that are not what was approved: neither shown nor called, whichever way they came to be other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from alembic import command

from approved import BAD, ApprovedHouse, approved_house, tool
from helpers import until
from toolscore.tools.approvals.decision import Rules
from toolscore.tools.caller import OWNER, Caller
from toolscore.tools.database import Where
from toolscore.tools.engines import sync_engine
from toolscore.tools.errors import StoreError
from toolscore.tools.migrate import configuration
from toolscore.tools.outcome import Outcome, RefusalError
from toolscore.tools.scan.finding import Finding

ANNOUNCE = tool("announce")


@pytest.fixture
async def house(tmp_path: Path, where: Where) -> AsyncIterator[ApprovedHouse]:
    async with approved_house(tmp_path, where=where) as house:
        house.lists(ANNOUNCE, tool("add"), tool("wait"))
        await house.install()
        yield house


async def test_what_a_server_lists_when_it_is_added_is_approved_and_called(house: ApprovedHouse) -> None:
    assert await house.call("add") == "add"
    record = house.approvals.record("s", "add")
    assert record is not None
    assert (record.digest, record.by, record.how) == (house.shown("add").digest, "owner", "install")
    assert record.definition == tool("add")


async def test_a_changed_tool_is_not_callable_until_it_is_approved(house: ApprovedHouse) -> None:
    house.lists(ANNOUNCE, tool("add", "Adds and more."))
    await house.relisted()
    refusal = await house.refused("add")
    assert refusal.outcome is Outcome.CHANGED
    assert "toolscore approve s add" in refusal.message
    assert refusal.excused
    await house.approve("add")
    assert await house.call("add") == "add"
    assert house.shown("add").definition["description"] == "Adds and more."


async def test_what_a_changed_tool_says_now_is_shown_to_nobody(house: ApprovedHouse) -> None:
    house.lists(ANNOUNCE, tool("add", BAD))
    await house.relisted()
    shown = house.shown("add")
    assert shown.held == "changed"
    assert shown.definition == tool("add")
    assert house.library.listed("s")[1].definition["description"] == BAD


@pytest.mark.parametrize(
    "other",
    [
        {"title": "Add"},
        {"inputSchema": {"type": "object", "properties": {"a": {"description": "x"}}}},
        {"outputSchema": {"type": "object"}},
        {"annotations": {"readOnlyHint": True}},
    ],
    ids=lambda other: next(iter(other)),
)
async def test_any_part_that_is_shown_counts_as_changed(
    house: ApprovedHouse, other: dict[str, object]
) -> None:
    house.lists(ANNOUNCE, {**tool("add"), **other})
    await house.relisted()
    assert house.quarantined() == ["add"]
    assert (await house.refused("add")).outcome is Outcome.CHANGED


async def test_only_the_changed_tool_is_stopped(house: ApprovedHouse) -> None:
    house.lists(ANNOUNCE, tool("add", "Other."), tool("wait"))
    await house.relisted()
    assert (await house.refused("add")).outcome is Outcome.CHANGED
    assert await house.call("announce") == "announce"


async def test_a_tool_that_is_as_approved_again_is_called_again(house: ApprovedHouse) -> None:
    house.lists(ANNOUNCE, tool("add", "Other."))
    await house.relisted()
    house.lists(ANNOUNCE)
    await house.relisted()
    assert "s__add" not in house.library.tools
    house.lists(ANNOUNCE, tool("add"))
    await house.relisted()
    assert await house.call("add") == "add"
    assert house.quarantined() == []


async def test_a_tool_that_went_away_and_comes_back_otherwise_is_held_back(house: ApprovedHouse) -> None:
    house.lists(ANNOUNCE)
    await house.relisted()
    house.lists(ANNOUNCE, tool("add", "Other."))
    await house.relisted()
    assert (await house.refused("add")).outcome is Outcome.CHANGED
    assert house.shown("add").definition == tool("add")


async def test_a_new_tool_is_let_in_unless_something_bad_is_found_in_it(house: ApprovedHouse) -> None:
    house.lists(ANNOUNCE, tool("add"), tool("good"), tool("bad", BAD))
    await house.relisted()
    assert await house.call("good") == "good"
    assert (await house.refused("bad")).outcome is Outcome.CHANGED
    assert "id_rsa" not in str(house.shown("bad").definition)
    record = house.approvals.record("s", "good")
    assert record is not None
    assert record.how == "trust.new_tools"
    change = house.changes[-1]
    assert (change.quarantined, change.approved) == (("s__bad",), ("s__good",))
    assert change.installed == ("s__good",)


@pytest.mark.parametrize(("rule", "held"), [("ask", ["bad", "good"]), ("scan", ["bad"]), ("allow", [])])
async def test_the_setting_says_what_is_done_with_new_tools(
    house: ApprovedHouse, rule: str, held: list[str]
) -> None:
    house.approvals.rules = replace(house.approvals.rules, new=rule)  # type: ignore[arg-type]
    house.lists(ANNOUNCE, tool("good"), tool("bad", BAD))
    await house.relisted()
    assert sorted(house.quarantined()) == held


async def test_where_changes_are_allowed_they_are_taken_as_they_come(house: ApprovedHouse) -> None:
    house.approvals.rules = Rules(changed="allow")
    house.lists(ANNOUNCE, tool("add", BAD))
    await house.relisted()
    assert await house.call("add") == "add"
    record = house.approvals.record("s", "add")
    assert record is not None
    assert record.how == "trust.changed_tools"
    assert record.findings


async def test_a_bad_tool_of_a_server_that_is_added_is_held_back_and_the_others_are_not(
    tmp_path: Path,
) -> None:
    async with approved_house(tmp_path) as house:
        house.lists(tool("bad", BAD), tool("good"))
        await house.install()
        assert await house.call("good") == "good"
        assert (await house.refused("bad")).outcome is Outcome.CHANGED
        notes = house.approvals.notes("s")
        assert "toolscore approve s" in notes[0]
        assert "id_rsa" not in "".join(notes)


async def test_what_is_approved_must_be_what_was_shown(house: ApprovedHouse) -> None:
    house.lists(ANNOUNCE, tool("add", "First."))
    await house.relisted()
    shown = house.approvals.held("s")[0].held
    house.lists(ANNOUNCE, tool("add", BAD))
    await house.relisted()
    with pytest.raises(RefusalError) as refusal:
        await house.approvals.approve("s", "add", shown, "tester")
    assert refusal.value.outcome is Outcome.CHANGED
    assert (await house.refused("add")).outcome is Outcome.CHANGED
    assert house.shown("add").definition == tool("add")


async def test_of_two_who_approve_different_versions_only_one_succeeds(house: ApprovedHouse) -> None:
    house.lists(ANNOUNCE, tool("add", "First."))
    await house.relisted()
    digest = house.approvals.held("s")[0].held
    done = await asyncio.gather(
        house.approvals.approve("s", "add", digest, "one"),
        house.approvals.approve("s", "add", "0" * 64, "two"),
        return_exceptions=True,
    )
    assert isinstance(done[1], RefusalError)
    record = house.approvals.record("s", "add")
    assert record is not None
    assert (record.digest, record.by) == (digest, "one")


async def test_a_call_that_waits_in_the_queue_is_stopped_if_the_tool_changes_meanwhile(
    tmp_path: Path,
) -> None:
    async with approved_house(tmp_path) as house:
        house.lists(ANNOUNCE, tool("add"), tool("wait"))
        await house.install(max_parallel=1)
        unit = house.supervisor.units["s"]
        first = asyncio.create_task(house.call("wait"))
        await until(lambda: unit.in_flight == 1)
        waiting = asyncio.create_task(house.call("add"))
        await until(lambda: unit.queued == 1)
        house.lists(ANNOUNCE, tool("add", "Other."), tool("wait"))
        before = unit.tools
        unit._list_again()  # what the server's own notification does
        await until(lambda: unit.tools is not before)
        (tmp_path / "tools.json.go").touch()
        assert await first == "wait"
        with pytest.raises(RefusalError) as refusal:
            await waiting
        assert refusal.value.outcome is Outcome.CHANGED


async def test_a_server_that_comes_up_otherwise_for_a_call_does_not_get_the_call(
    house: ApprovedHouse,
) -> None:
    unit = house.supervisor.units["s"]
    unit.stop()
    await unit.stopped()
    house.lists(ANNOUNCE, tool("add", "Other."))
    assert not house.shown("add").held  # nobody knows yet
    assert (await house.refused("add")).outcome is Outcome.CHANGED


async def test_what_changed_while_toolscore_was_not_running_is_noticed(tmp_path: Path) -> None:
    async with approved_house(tmp_path) as house:
        house.lists(ANNOUNCE, tool("add"))
        await house.install()
    async with approved_house(tmp_path) as house:
        house.lists(ANNOUNCE, tool("add", "Other."))
        assert (await house.refused("add")).outcome is Outcome.CHANGED
        await house.library.arrived()
        assert house.quarantined() == ["add"]
    async with approved_house(tmp_path) as house:  # and stays so, without being told of again
        assert house.shown("add").held == "changed"
        assert house.shown("add").definition == tool("add")
        assert house.quarantined() == ["add"]
        await house.restart()
        assert [change for change in house.changes if change.quarantined] == []
        await house.approve("add")
        assert await house.call("add") == "add"
    async with approved_house(tmp_path) as house:
        assert await house.call("add") == "add"


async def test_a_server_that_flips_at_each_list_is_called_only_as_it_was_approved(tmp_path: Path) -> None:
    async with approved_house(tmp_path) as house:
        good, bad = [ANNOUNCE, tool("add")], [ANNOUNCE, tool("add", BAD)]
        house.lists(good, bad)
        await house.install()
        for turn in range(4):
            await house.relisted()
            assert house.shown("add").definition == tool("add")
            if turn % 2:
                assert await house.call("add") == "add"
            else:
                assert (await house.refused("add")).outcome is Outcome.CHANGED
        told = [change for change in house.changes if change.quarantined]
        assert len(told) == 1


async def test_each_instance_is_called_by_what_it_lists_itself(tmp_path: Path) -> None:
    async with approved_house(tmp_path) as house:
        house.lists(ANNOUNCE, tool("add"))
        house.lists(ANNOUNCE, tool("add", BAD), file=".3")  # the first is the one nobody has for himself
        await house.install("each", isolation="per-client")
        one, two = (replace(OWNER, listener="unix", connection=number) for number in (1, 2))
        assert await house.call("add", caller=one) == "add"
        assert (await house.refused("add", caller=two)).outcome is Outcome.CHANGED
        await house.library.arrived()
        assert house.shown("add").definition == tool("add")
        assert house.quarantined() == ["add"]


async def test_a_lease_does_not_get_past_the_approval(tmp_path: Path) -> None:
    async with approved_house(tmp_path) as house:
        house.lists(ANNOUNCE, tool("add"))
        await house.install("each", isolation="per-lease")
        house.lists(ANNOUNCE, tool("add", BAD), file=".2")
        caller = replace(OWNER, listener="unix", connection=1)
        lease = await house.router.carrier.leases.acquire("s", caller)
        with pytest.raises(RefusalError) as refusal:
            await house.router.call("s__add", {}, caller, lease=lease.id)
        assert refusal.value.outcome is Outcome.CHANGED


async def test_a_call_from_inside_a_call_is_stopped_too(house: ApprovedHouse) -> None:
    house.lists(ANNOUNCE, tool("add", "Other."))
    await house.relisted()
    nested = Caller("owner", "stdio", 1, OWNER.rights, parent="x", depth=1)
    assert (await house.refused("add", caller=nested)).outcome is Outcome.CHANGED


async def test_names_without_end_do_not_fill_the_memory(
    house: ApprovedHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolscore.tools.approvals.judging.MOST_HELD", 5)
    for turn in range(4):
        house.lists(ANNOUNCE, *(tool(f"bad{turn}{number}", BAD) for number in range(3)))
        await house.relisted()
    known = [name for name in house.approvals._records["s"] if name.startswith("bad")]
    assert len(known) <= 5 + 3
    assert {f"bad3{number}" for number in range(3)} <= set(known)


@pytest.mark.parametrize("new", ["scan", "allow"])
async def test_harmless_names_without_end_do_not_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new: Literal["scan", "allow"]
) -> None:
    monkeypatch.setattr("toolscore.tools.approvals.judging.MOST_HELD", 5)
    monkeypatch.setattr("toolscore.tools.approvals.judging.MOST_GONE", 5)
    async with approved_house(tmp_path, Rules(new=new)) as house:
        house.lists(ANNOUNCE, tool("add"))
        await house.install()
        house.lists(ANNOUNCE, tool("add"), tool("early"))
        await house.relisted()
        for turn in range(6):
            for text in ("", "Other."):  # what is held back of one that was let in counts as well
                house.lists(ANNOUNCE, tool("add"), *(tool(f"t{turn}{number}", text) for number in range(3)))
                await house.relisted()
        known = [name for name in house.approvals._records["s"] if name.startswith("t")]
        assert len(known) <= 5 + 5 + 3 + 3
        assert len(await house.approvals._shelf.records()) == len(house.approvals._records["s"])
        assert await house.call("add") == "add"
        house.lists(ANNOUNCE, tool("add"), tool("early", "Quite other."), tool("late"))
        await house.relisted()
        if new == "scan":
            assert house.quarantined() == ["early", "late"], "nor does one come back as another"
            assert (await house.refused("late")).outcome is Outcome.CHANGED
            await house.approve("late")
        assert await house.call("late") == "late"


async def test_the_names_of_all_tools_are_made_ready_once_for_a_whole_list(
    house: ApprovedHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []

    def look(_definition: object, _server: str, names: object) -> tuple[Finding, ...]:
        made.append(names)
        return ()

    monkeypatch.setattr(house.approvals._judge, "_scan", look)
    house.lists(ANNOUNCE, *(tool(f"new{number}") for number in range(20)))
    await house.relisted()
    assert len(made) == 20
    assert len(set(map(id, made))) == 1


async def test_a_person_who_rejects_leaves_it_in_quarantine(house: ApprovedHouse) -> None:
    house.lists(ANNOUNCE, tool("add", "Other."))
    await house.relisted()
    await house.approvals.reject("s", "add", "tester")
    assert house.approvals.held("s")[0].rejected
    assert (await house.refused("add")).outcome is Outcome.CHANGED


async def test_a_list_somebody_decided_on_is_approved_as_a_whole(house: ApprovedHouse) -> None:
    listed = [ANNOUNCE, tool("add", "Newer."), tool("more")]
    house.lists(*listed)
    await house.relisted()
    assert await house.approvals.rebaseline("s", listed, "owner") == []
    assert await house.call("add") == "add"
    assert await house.call("more") == "more"
    record = house.approvals.record("s", "add")
    assert record is not None
    assert (record.by, record.how) == ("owner", "upgrade")


async def test_what_is_listed_otherwise_than_was_decided_on_is_held_back(house: ApprovedHouse) -> None:
    house.lists(ANNOUNCE, tool("add", "Worse."))
    await house.relisted()
    held = await house.approvals.rebaseline("s", [ANNOUNCE, tool("add", "Newer.")], "owner")
    assert [(one.tool, one.why) for one in held] == [("add", "changed")]
    assert house.shown("add").description == "Newer."
    assert (await house.refused("add")).outcome is Outcome.CHANGED


async def test_after_another_installation_the_next_list_is_the_first(house: ApprovedHouse) -> None:
    await house.approvals.expect_anew("s")
    house.lists(ANNOUNCE, tool("add", "Other."), tool("bad", BAD))
    await house.restart()
    assert await house.call("add") == "add"
    assert house.quarantined() == ["bad"]


async def test_a_server_that_is_removed_and_added_again_is_approved_anew(house: ApprovedHouse) -> None:
    await house.servers.remove("s", OWNER)
    house.lists(ANNOUNCE, tool("add", "Other."))
    await house.install()
    assert await house.call("add") == "add"


async def test_what_cannot_be_stored_is_not_let_in(
    house: ApprovedHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(house.approvals._shelf, "put", full)
    house.lists(ANNOUNCE, tool("add", BAD))
    await house.relisted()
    assert (await house.refused("add")).outcome is Outcome.CHANGED
    assert house.shown("add").definition == tool("add")
    monkeypatch.undo()
    await house.relisted()
    assert house.quarantined() == ["add"]


async def test_a_definition_that_cannot_be_looked_through_is_held_back(
    house: ApprovedHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> tuple[Finding, ...]:
        raise ValueError("x")

    monkeypatch.setattr(house.approvals._judge, "_scan", broken)
    house.lists(ANNOUNCE, tool("add"), tool("new"))
    await house.relisted()
    assert house.quarantined() == ["new"]


async def test_what_was_known_before_there_were_approvals_counts_as_approved(tmp_path: Path) -> None:
    async with approved_house(tmp_path) as house:
        house.lists(ANNOUNCE, tool("add", BAD))
        house.approvals.rules = Rules(findings="show")
        await house.install()
    config, engine = configuration(), sync_engine(tmp_path / "store.db")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0005")
    engine.dispose()
    async with approved_house(tmp_path) as house:
        assert await house.call("add") == "add"
        record = house.approvals.record("s", "add")
        assert record is not None
        assert (record.digest, record.how) == (house.shown("add").digest, "migration")
        house.lists(ANNOUNCE, tool("add", "Other."), tool("worse", BAD))
        await house.relisted()
        assert house.quarantined() == ["add", "worse"]
        assert house.shown("add").definition == tool("add", BAD)
