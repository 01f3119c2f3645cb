"""The signs of life of a gateway, and what it sees of the others: a thread with a database connection of its own.

A thread, so that an event loop that is held up by something does not make a gateway look dead.

The connection holds an advisory lock, whose number is the gateway's epoch. When its process is killed, the kernel
closes the connection and the lock is gone: the others see that at their next look. That alone proves nothing, as a
connection can break and a database can restart; but where nobody listens any more at the gateway's address as well,
it is dead, and nobody waits for the time-out. Importing this imports psycopg.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import psycopg

from ..engines import url_of
from .gateway import Gateway, Lease
from .steady import steady

logger = logging.getLogger(__name__)

CHANNEL = "toolscore_gateways"
"""Where it is told that somebody came, left, or let go of a server, so that nobody waits for the next look."""

BEATS = 4
"""Signs of life within the time-out, at the least."""

LONGEST_BEAT = 0.75
"""Seconds between two of them at the most, and so between two looks at the others: who was killed is seen by then."""

_LOCKS = 0x7453
"""The first half of the advisory locks of gateways (PostgreSQL, `pg_advisory_lock(int, int)`)."""

_AGAIN = 0.2
"""Seconds before a connection is tried anew."""

_KNOCK = 0.5
"""Seconds within one beat for the addresses of other gateways to take a connection, or refuse it."""

_NOW = b"extract(epoch from clock_timestamp())"

_SEEN = b"""
SELECT g.id, g.name, g.url, g.epoch, g.version, g.began_at,
    extract(epoch from clock_timestamp()) - greatest(g.seen_at, extract(epoch from pg_postmaster_start_time())),
    g.state, g.unable, g.seen_at,
    EXISTS (SELECT 1 FROM pg_locks l WHERE l.locktype = 'advisory' AND l.classid = %s
        AND l.objid = g.epoch AND l.objsubid = 2
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))
FROM gateway g ORDER BY g.epoch
"""
# After the database itself was away, everybody has the whole time-out to come back.


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen at one look.

    Attributes:
        me: This gateway.
        gateways: All there are, this one among them.
        leases: Who runs what.
        sent: When the sign of life that went with it was sent, by `steady`.
        lost: Whether this gateway had been taken for dead before, and is another one now.
        dead: Gateways that were found dead.
    """

    me: Gateway
    gateways: tuple[Gateway, ...]
    leases: dict[str, Lease]
    sent: float
    lost: bool
    dead: tuple[Gateway, ...]


class Pulse(threading.Thread):
    """Tells that this gateway lives, and looks at the others.

    Args:
        where: The database.
        me: This gateway; id and epoch are given to it.
        timeout: Seconds without a sign of life after which a gateway is dead.
        new_id: Makes an id for a life.
        on_alive: Told which life gave a sign of life, and when it was sent. Called in this thread.
        on_look: Told of each look. Called in this thread.
        is_heard: Tells whether what is told is heard. Called in this thread.
    """

    def __init__(
        self,
        where: str,
        me: Gateway,
        timeout: float,
        new_id: Callable[[], str],
        on_alive: Callable[[str, float], None],
        on_look: Callable[[Look], None],
        is_heard: Callable[[], bool],
    ) -> None:
        super().__init__(name="toolscore-pulse", daemon=True)
        self._where = where
        self._me = me
        self._timeout = timeout
        self._new_id = new_id
        self._on_alive = on_alive
        self._on_look = on_look
        self._pause = min(timeout / BEATS, LONGEST_BEAT)
        self._is_heard = is_heard
        self._witnessed = False
        self._knocks_until = 0.0
        self._over = threading.Event()
        self._registered = False
        self._signature: tuple[int, int] | None = None
        self._leases: dict[str, Lease] = {}
        self.unable: dict[str, str] = {}
        """The servers this gateway cannot run, and why. Replaced, not changed."""
        self.states: dict[str, str] = {}
        """The states of the servers it runs. Replaced, not changed."""
        self._told: dict[str, str] = {}
        self.draining = False
        """Whether it is on its way out."""
        self.problem: str | None = None
        """Why the database cannot be reached, while it cannot."""

    def stop(self) -> None:
        """Have it end; the gateway's row stays, `Registry.leave` deletes it."""
        self._over.set()

    def run(self) -> None:
        """Beat until `stop`."""
        while not self._over.is_set():
            try:
                with self._connected() as connection:
                    self._beat(connection)
            except psycopg.Error as error:
                if self._over.is_set():
                    return
                said = " ".join(str(error).split())
                if self.problem is None:
                    logger.warning("the shared database cannot be reached: %s", said)
                self.problem = said or type(error).__name__
            except Exception:
                logger.exception("bug in the pulse of this gateway")
            self._over.wait(_AGAIN)

    def _connected(self) -> psycopg.Connection[Any]:
        patience = max(1, round(self._timeout))
        url = url_of(self._where).update_query_dict(
            {"connect_timeout": str(max(2, patience)), "tcp_user_timeout": str(patience * 1000)}
        )
        text = url.set(drivername="postgresql").render_as_string(hide_password=False)
        connection = psycopg.connect(text, autocommit=True)
        connection.execute(f"SET statement_timeout = {patience * 1000}".encode())
        connection.execute(f"LISTEN {CHANNEL}".encode())
        return connection

    def _beat(self, connection: psycopg.Connection[Any]) -> None:
        self._witnessed = False
        while not self._over.is_set():
            if not self._is_heard():
                self._over.wait(self._pause)  # its event loop stands still: it is as good as dead
                continue
            sent = steady()
            lost = False
            if self._registered and self._alive(connection):
                # At once: looking at the others may take its time, and is nothing that a lease depends on.
                self._on_alive(self._me.id, sent)
            else:
                lost, self._registered = self._registered, False
                self._register(connection)
            if not self._witnessed:
                self._witness(connection)
            self._tell_states(connection)
            gateways, dead = self._look(connection)
            if self.problem is not None:
                logger.info("the shared database is reached again")
                self.problem = None
            self._on_look(Look(self._me, gateways, self._leased(connection), sent, lost, dead))
            began = time.monotonic()
            for _told in connection.notifies(timeout=self._pause, stop_after=1):
                break
            if self._over.is_set():
                return
            # Many may be told of at once, and none of them needs a look of its own.
            if time.monotonic() - began < 0.01:
                self._over.wait(0.01)

    def _witness(self, connection: psycopg.Connection[Any]) -> None:
        # Of a connection that broke, the server may hold it a little longer; then it is had at a later beat.
        row = connection.execute("SELECT pg_try_advisory_lock(%s, %s)", (_LOCKS, self._me.epoch)).fetchone()
        self._witnessed = row is not None and row[0] is True

    def _register(self, connection: psycopg.Connection[Any]) -> None:
        row = connection.execute("SELECT nextval('gateway_epoch')").fetchone()
        assert row is not None
        self._me = replace(self._me, id=self._new_id(), epoch=int(row[0]))
        self._told = {}
        self._witness(connection)
        me = self._me
        connection.execute(
            b"INSERT INTO gateway (id, name, url, epoch, version, began_at, seen_at, state, unable) "
            b"VALUES (%s, %s, %s, %s, %s, " + _NOW + b", " + _NOW + b", %s, %s)",
            (me.id, me.name, me.url, me.epoch, me.version, self._state(), json.dumps(self.unable)),
        )
        self._registered = True
        connection.execute("SELECT pg_notify(%s, '')", (CHANNEL,))

    def _state(self) -> str:
        return "draining" if self.draining else self._me.state

    def _alive(self, connection: psycopg.Connection[Any]) -> bool:
        """Give a sign of life; tell whether this gateway is still taken for alive."""
        done = connection.execute(
            b"UPDATE gateway SET seen_at = " + _NOW + b", state = %s, unable = %s WHERE id = %s",
            (self._state(), json.dumps(self.unable), self._me.id),
        )
        return done.rowcount == 1

    def _tell_states(self, connection: psycopg.Connection[Any]) -> None:
        states = self.states
        for server, state in states.items():
            lease = self._leases.get(server)
            # A lease that was taken anew since the last beat says nothing, whatever was told of the one before.
            fresh = lease is not None and lease.gateway == self._me.id and lease.state != state
            if fresh or self._told.get(server) != state:
                connection.execute(
                    "UPDATE lease SET state = %s WHERE server = %s AND gateway = %s",
                    (state, server, self._me.id),
                )
        self._told = dict(states)

    def _look(self, connection: psycopg.Connection[Any]) -> tuple[tuple[Gateway, ...], tuple[Gateway, ...]]:
        found, dead = [], []
        # Whose machine is gone does not even refuse; they must not hold up the next sign of life, however many.
        self._knocks_until = time.monotonic() + _KNOCK
        for row in connection.execute(_SEEN, (_LOCKS,)).fetchall():
            seen_at, witnessed = row[9], row[10]
            one = Gateway(
                row[0],
                row[1],
                row[2],
                int(row[3]),
                row[4],
                float(row[5]),
                float(row[6]),
                row[7],
                _object(row[8]),
            )
            if one.id != self._me.id and self._is_dead(connection, one, seen_at, witnessed):
                dead.append(one)
            else:
                found.append(one)
        if dead:
            connection.execute("SELECT pg_notify(%s, '')", (CHANNEL,))
        return tuple(found), tuple(dead)

    def _is_dead(
        self, connection: psycopg.Connection[Any], one: Gateway, seen_at: float, witnessed: bool
    ) -> bool:
        """Tell whether a gateway is dead, and have it known to all; nobody comes back from that."""
        if one.age > self._timeout:
            why = f"it gave no sign of life for {one.age:.1f} s"
        elif not witnessed and _refuses(one.url, self._knocks_until - time.monotonic()):
            why = "its connections are closed"
        else:
            return False
        done = connection.execute("DELETE FROM gateway WHERE id = %s AND seen_at = %s", (one.id, seen_at))
        if done.rowcount == 0:
            return False  # it lives, or somebody else was quicker
        logger.warning("gateway %s is dead: %s", one.name, why)
        return True

    def _leased(self, connection: psycopg.Connection[Any]) -> dict[str, Lease]:
        """Give who runs what; read only where that changed, as there may be thousands."""
        row = connection.execute(
            "SELECT count(*), coalesce(sum(epoch), 0), coalesce(sum(hashtext(concat(state, ' ', server))), 0) "
            "FROM lease"
        ).fetchone()
        assert row is not None
        signature = int(row[0]), hash((int(row[1]), int(row[2])))
        if signature != self._signature:
            rows = connection.execute("SELECT server, gateway, epoch, state FROM lease").fetchall()
            self._leases = {row[0]: Lease(row[0], row[1], int(row[2]), row[3]) for row in rows}
            self._signature = signature
        return self._leases


def _object(text: str) -> dict[str, str]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return {str(key): str(why) for key, why in value.items()} if isinstance(value, dict) else {}


def _refuses(url: str, patience: float) -> bool:
    """Tell whether nobody listens at an address; one that cannot be asked may well be alive."""
    if patience <= 0:
        return False
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 0), timeout=patience).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False
