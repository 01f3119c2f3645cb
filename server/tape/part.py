"""One client's part in a replay: which recorded request answers the one it makes."""

from __future__ import annotations

from typing import Any

from ..exchange import Exchange
from .event import LISTS
from .likeness import differences, key_of, likeness, subject_of
from .nearest import Near, differing, nearest, told
from .report import Account
from .tape import Entry, Tape


class MissError(Exception):
    """A request that the recording has no answer for.

    Args:
        outcome: `not_recorded`, or `diverged` where the order is what is wrong.
        message: Why, for whoever asked.
        near: What is nearest.
    """

    def __init__(self, outcome: str, message: str, near: list[Near] | None = None) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.message = message
        self.near = near or []


class Part:
    """Answers by what is asked: the recorded answers to the same request in turn, then the last one again.

    Args:
        tape: The recording.
        account: What is kept of it for the report.
    """

    def __init__(self, tape: Tape, account: Account) -> None:
        self.tape = tape
        self.account = account
        self._turns: dict[bytes, int] = {}

    def choose(self, exchange: Exchange) -> Entry | dict[str, Any]:
        """Choose what answers a request: a recorded one, or a list that was recorded without being asked for.

        Raises:
            MissError: If nothing does.
        """
        method = exchange.method
        alike = likeness(method, exchange.params)
        entries = self._same(method, alike)
        answered = [entry for entry in entries if entry.answered]
        if answered:
            key = answered[0].key
            turn = self._turns.get(key, 0)
            self._turns[key] = turn + 1
            return answered[min(turn, len(answered) - 1)]
        if method in LISTS and "cursor" not in alike and method in self.tape.lists:
            return self.tape.lists[method]
        if entries:
            return entries[0]
        raise self.miss(method, alike)

    def _same(self, method: str, alike: dict[str, Any]) -> list[Entry]:
        entries = self.tape.by_key.get(key_of(method, alike))
        if entries is not None:
            return entries
        # What was hidden when it was recorded fits anything.
        for entry in self.tape.entries:
            if entry.hidden and entry.method == method:
                other = likeness(method, self.tape.params(entry))
                if not differences(other, alike):
                    return self.tape.by_key[entry.key]
        return []

    def miss(self, method: str, alike: dict[str, Any]) -> MissError:
        """Make the answer to a request that was not recorded."""
        near = nearest(self.tape, method, alike)
        subject = subject_of(method, alike)
        why = told(near) or " Nothing like it was recorded."
        return MissError("not_recorded", f"{subject} was not recorded like this.{why}", near)

    def disagreed(self, _what: str, _differs: list[dict[str, Any]]) -> None:
        """Take note that a client answered a question otherwise than it was recorded, which is taken as given."""


class StrictPart(Part):
    """Answers the requests of one recorded session in their order.

    Those that were under way at the same time may come in any order. Lists are not of the order, because clients ask
    for them by themselves: they are answered as they were at that point.

    Args:
        tape: The recording.
        account: What is kept of it for the report.
        session: Number of the recorded session; `None` if none is left for this client.
    """

    def __init__(self, tape: Tape, account: Account, session: int | None) -> None:
        super().__init__(tape, account)
        self._session = session
        entries = tape.of(session) if session is not None else []
        self._left = account.left = [entry for entry in entries if entry.method not in LISTS]
        self._at = 0
        """Line of the last request that was answered, lists left aside."""
        self._listed: set[int] = set()
        """Lines of the lists that were given."""

    def choose(self, exchange: Exchange) -> Entry | dict[str, Any]:
        """Choose the one that is next.

        Raises:
            MissError: If it is another one.
        """
        method = exchange.method
        alike = likeness(method, exchange.params)
        if method in LISTS:
            return self._list(key_of(method, alike)) or super().choose(exchange)
        if self._session is None:
            raise self._diverged(
                method, alike, f"all {len(self.tape.sessions)} recorded sessions are taken by clients before"
            )
        expected = self._expected()
        key = key_of(method, alike)
        for entry in expected:
            if entry.key == key or (
                entry.hidden
                and entry.method == method
                and not differences(likeness(method, self.tape.params(entry)), alike)
            ):
                self._left.remove(entry)
                self._at = max(self._at, entry.line)
                return entry
        if not expected:
            raise self._diverged(method, alike, "the recorded session is over: nothing more was asked in it")
        near = []
        for entry in expected[:3]:
            other = likeness(entry.method, self.tape.params(entry))
            differ = differences(other, alike) if entry.method == method else []
            near.append(Near(entry, differ))
        names = " or ".join(f"{one.entry.subject} (line {one.entry.line})" for one in near)
        raise self._diverged(method, alike, f"the recording goes on with {names}", near)

    def _list(self, key: bytes) -> Entry | None:
        """Give the list that was asked for here, or else the last one before; `None` if there is neither."""
        end = self._left[0].line if self._left else 1 << 60
        entries = self.tape.by_key.get(key, ())
        mine = [one for one in entries if one.session == self._session and one.answered and one.line < end]
        here = [one for one in mine if one.line > self._at and one.line not in self._listed]
        chosen = here[0] if here else mine[-1] if mine else None
        if chosen is not None:
            self._listed.add(chosen.line)
        return chosen

    def _expected(self) -> list[Entry]:
        """Give the request that is next, and those that were made before it was over."""
        expected: list[Entry] = []
        for entry in self._left:
            # What its client gave up may be given up before it is under way, and need not be asked.
            if any(earlier.answered and earlier.over < entry.line for earlier in expected):
                break
            expected.append(entry)
        return expected

    def _diverged(
        self, method: str, alike: dict[str, Any], why: str, near: list[Near] | None = None
    ) -> MissError:
        differs = ""
        if near and near[0].differences and near[0].entry.subject == subject_of(method, alike):
            differs = f" There, {differing(near[0])}."
        message = f"{subject_of(method, alike)} is not what was asked here: {why}.{differs}"
        return MissError("diverged", message, near)

    def disagreed(self, what: str, differs: list[dict[str, Any]]) -> None:
        """Refuse to go on where a client answered a question otherwise than it was recorded.

        Raises:
            MissError: Always.
        """
        places = ", ".join(one["path"] or "all of it" for one in differs[:5])
        raise MissError(
            "diverged", f"The client answered {what} otherwise than it was recorded: {places} differs."
        )
