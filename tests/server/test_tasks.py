"""Tasks of several servers under ids that are one client's alone."""

from __future__ import annotations

from toolscore.server.tasks import Place, TaskBook
from toolscore.tools.caller import OWNER, Caller

OTHER = Caller(principal="other", listener="ws")


def begun(identity: object) -> dict[str, object]:
    return {"task": {"taskId": identity, "status": "working"}, "kept": True}


def test_a_task_keeps_its_id_and_is_its_callers_alone() -> None:
    book = TaskBook()
    assert book.remember(OWNER, "a", begun("1")) == begun("1")
    assert book.find(OWNER, "1") == Place("a", "1", OWNER.client)
    assert book.find(OTHER, "1") is None
    assert (book.of(OWNER), book.of(OTHER)) == (["1"], [])


def test_the_same_id_of_another_server_is_shown_as_another() -> None:
    book = TaskBook()
    book.remember(OWNER, "a", begun("1"))
    second = book.remember(OWNER, "b", begun("1"))
    assert second == {"task": {"taskId": "b:1", "status": "working"}, "kept": True}
    assert book.find(OWNER, "b:1") == Place("b", "1", OWNER.client)
    assert book.find(OWNER, "1") == Place("a", "1", OWNER.client)
    assert book.owners("b", "1") == [("owner", "b:1")]
    book.forget(OWNER, "1")
    assert book.of(OWNER) == ["b:1"]


def test_a_result_that_began_no_task_is_left_alone() -> None:
    book = TaskBook()
    results: list[dict[str, object]] = [{}, {"task": None}, begun(7), {"content": []}]
    for result in results:
        assert book.remember(OWNER, "a", result) is result
    assert book.remember(OWNER, None, begun("1")) == begun("1")
    assert book.of(OWNER) == []
