"""What a fleet of a size needs of everything, beside what there is of it: what runs out first, and what to do."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from sizing_line import Fleet, Share, fleet
from sizing_measured import MIB, Figures

USABLE = 0.6
"""The share of a core, or of a line, that may be used on average: beyond it queues grow."""

JOURNAL = 256 * MIB
"""Bytes of a journal (`journal.max_size`)."""

CONNECTIONS = 12
"""Of a gateway to the database, at the most: ten for its work, one that listens, one for its signs of life."""

SIGNS = 6 / 2.5
"""Signs of life a second between a gateway and each node's agent: six in the time of a lease (`ray.lease`)."""

MANY = 64
"""Gateways of which a fleet is simulated at the most; of more of them each is like those."""


@dataclass(frozen=True)
class Size:
    """How much there is to do.

    Attributes:
        name: What the table calls it.
        children: Servers, all of them running.
        nodes: Machines they run on.
        calls_s: Calls a second.
        clients: Clients that are connected.
    """

    name: str
    children: int
    nodes: int
    calls_s: float
    clients: int


SIZES = (
    Size("a team", 40, 1, 50, 20),
    Size("a department", 400, 4, 1_000, 500),
    Size("a company", 2_000, 50, 10_000, 5_000),
    Size("past all machines", 10_000, 1_000, 100_000, 20_000),
)


@dataclass(frozen=True)
class Given:
    """What is not measured here: the machines, the habits, and parts that are not on this one. All can be set.

    Attributes:
        memory_gib: Memory of a machine.
        node_cores: Cores of one.
        files: Descriptors a process may have (`LimitNOFILE` of the unit).
        pids: Processes a machine may have (`kernel.pid_max` as it comes).
        gbits: The network of a gateway.
        call_bytes: Bytes of an ordinary call and its answer.
        parked_s: Seconds an ordinary call takes in its child.
        processes: Processes of an ordinary server, with what it starts.
        changes_s: Changes of a server's list or row, for each server, a second (one an hour).
        code: The share of calls that run Python in a box.
        recover_s: Seconds within which the servers of a lost machine are to be back.
        link_us: Processor time of a gateway for a call that goes to another machine's agent, beyond its own pipe.
        sign_us: Processor time of a gateway for a sign of life with a node's agent.
        agent_mib: Memory of a gateway's agent on a node: of each gateway there is one on each node.
        peer_us: Processor time a call takes that is passed on to another gateway, of both gateways, beyond a call's.
        between_us: Microseconds on the way to another gateway and back.
        row_us: Processor time of a gateway for a record of the journal that it sends to the shared database.
        database_writes_s: Transactions a second of the database that gateways share.
        database_rows_s: Rows a second it takes in batches: the journal.
        database_connections: Connections it takes (`max_connections` as it comes).
        beats_s: Transactions a second of each gateway that is idle: its heartbeat, its looks, its scores.
    """

    memory_gib: float = 64
    node_cores: int = 16
    files: int = 524_288
    pids: int = 32_768
    gbits: float = 10
    call_bytes: float = 4_000
    parked_s: float = 0.5
    processes: float = 2
    changes_s: float = 1 / 3600
    code: float = 0.002
    recover_s: float = 60
    link_us: float = 30
    sign_us: float = 30
    agent_mib: float = 60
    peer_us: float = 180
    between_us: float = 300
    row_us: float = 30
    database_writes_s: float = 1_000
    database_rows_s: float = 50_000
    database_connections: float = 100
    beats_s: float = 4.5


def given_of(figures: Figures) -> Given:
    """Give what is assumed, but for what could be measured."""
    measured = {field.name: getattr(figures, field.name, None) for field in fields(Given)}
    return Given(**{name: value for name, value in measured.items() if value is not None})


@dataclass(frozen=True)
class Need:
    """How much of one thing is needed.

    Attributes:
        what: Which.
        share: Of what there is; above 1 it does not do.
        said: The figures behind it.
        remedy: What to do about it.
    """

    what: str
    share: float
    said: str
    remedy: str


def per_call(figures: Figures, share: Share, size: Size, given: Given, gateways: int) -> float:
    """Give the seconds of processor time a call costs all gateways together."""
    own = share.work + share.wake  # in a crowd that is woken about once a call
    remote = given.link_us / 1e6 if size.nodes > 1 else 0.0
    sent = given.row_us / 1e6 if gateways > 1 else 0.0
    return own + remote + sent + (1 - 1 / gateways) * given.peer_us / 1e6


def needs(figures: Figures, share: Share, size: Size, given: Given, gateways: int) -> list[Need]:
    """Tell what is needed with so many gateways, the scarcest first."""
    rate, servers = size.calls_s / gateways, size.children / gateways
    clients, on_node = size.clients / gateways, size.children / size.nodes
    agents = size.nodes if size.nodes > 1 else 0  # on one machine there is no cluster
    # A line for each server of another gateway that is called here, and for each of this one's that is called there.
    lines = (size.children - servers) + servers * (gateways - 1)
    busy = rate * per_call(figures, share, size, given, gateways) + agents * SIGNS * given.sign_us / 1e6
    memory = (
        figures.idle_mib
        + size.children * figures.server_kib / 1024  # every gateway knows all of them
        + clients * max(figures.client_kib, figures.session_kib) / 1024
        + (lines + agents) * figures.client_kib / 1024
        + rate * given.parked_s * (given.call_bytes + 4096) / MIB
    )
    files = servers * figures.server_files + clients + lines + agents + gateways + 200
    pids = on_node * given.processes + 200
    children = on_node * figures.child_mib + (gateways * given.agent_mib if agents else 0.0)
    changes = size.children * given.changes_s
    # Each change is read by all other gateways, too. One alone has a store of its own.
    writes = changes * gateways + gateways * given.beats_s if gateways > 1 else changes
    written = given.database_writes_s if gateways > 1 else figures.store_writes_s
    rows = size.calls_s if gateways > 1 else 0.0
    # What a lost node had is spread over the others, and what a lost gateway had over those.
    restart = 0.0  # one machine is lost together with its gateway
    if size.nodes > 1:
        restart = max(
            on_node * figures.start_ms / 1e3 / given.node_cores / (size.nodes - 1),
            on_node * figures.start_gateway_ms / 1e3 / gateways,
        )
    again = max(
        servers * figures.start_gateway_ms / 1e3 / max(1, gateways - 1),
        servers * figures.start_ms / 1e3 / given.node_cores / size.nodes,
    )
    told = changes * clients * figures.notify_us / 1e6
    relisted = on_node * clients * figures.notify_us / 1e6
    bits = rate * (2 - 1 / gateways) * given.call_bytes * 8 / 1e9  # each way; most calls pass two gateways
    code = size.calls_s * given.code
    boxes = figures.executions_s / figures.cores * given.node_cores * size.nodes
    found = [
        Need(
            "event loop",
            busy / USABLE,
            f"{busy:.2f} of a core at {rate:,.0f} calls/s a gateway",
            "more gateways: each is one core",
        ),
        Need(
            "memory of a gateway",
            memory / 1024 / given.memory_gib / 0.5,
            f"{memory / 1024:.1f} GiB",
            "more gateways",
        ),
        Need("files of a gateway", files / given.files, f"{files:,.0f} descriptors", "raise LimitNOFILE"),
        Need(
            "processes of a node",
            pids / given.pids,
            f"{pids:,.0f} processes",
            "raise kernel.pid_max and the pids limit of the container or service",
        ),
        Need(
            "memory of a node",
            children / 1024 / given.memory_gib / 0.8,
            f"{children / 1024:.1f} GiB of servers and agents",
            "more nodes; servers that stop when idle (`process.idle_timeout`); shared ones instead of one a client",
        ),
        Need(
            "database writes",
            writes / written,
            f"{writes:,.0f} transactions/s",
            "fewer changes of state (longer `process.idle_timeout`); a faster disk for the database",
        ),
        Need(
            "journal rows",
            rows / given.database_rows_s,
            f"{rows:,.0f} rows/s",
            "`journal.shared = false`: each gateway keeps its own; a collector (`journal.otlp_endpoint`) has all",
        ),
        Need(
            "database connections",
            (gateways * CONNECTIONS if gateways > 1 else 0) / given.database_connections,
            f"{gateways * CONNECTIONS:,} connections",
            "raise max_connections there",
        ),
        Need(
            "notifications",
            told / 0.1,
            f"{told * 100:.1f} % of a core",
            "clients that follow events instead of lists; fewer clients a gateway",
        ),
        Need(
            "news of a lost node",
            relisted / 5,
            f"{relisted:.1f} s of a gateway's core",
            "the same; lists that change together are told as one, so this is the worst case",
        ),
        Need(
            "servers back after a node is lost",
            restart / given.recover_s,
            f"{restart:.1f} s to start them elsewhere",
            "smaller nodes, more of them",
        ),
        Need(
            "servers back after a gateway is lost",
            again / given.recover_s,
            f"{again:.1f} s to start them again",
            'more gateways; servers that start at first use (`process.start = "use"`)',
        ),
        Need("network of a gateway", bits / given.gbits / USABLE, f"{bits:.2f} Gbit/s", "more gateways"),
        Need(
            "code in boxes",
            code / boxes,
            f"{code:,.0f} executions/s",
            "more cores; on gateways without a cluster, more gateways",
        ),
    ]
    return sorted(found, key=lambda need: -need.share)


def reach(figures: Figures, size: Size, given: Given, gateways: int) -> float:
    """Give the seconds that a gateway's journal goes back, at its default size."""
    return JOURNAL / (size.calls_s / gateways * (figures.journal_bytes + given.call_bytes))


MORE = ("event loop", "memory of a gateway", "network of a gateway", "servers back after a gateway is lost")
"""What more gateways help against."""


def enough(figures: Figures, share: Share, size: Size, given: Given) -> int:
    """Give how many gateways there must be for what more of them help against."""
    gateways = 1
    while gateways < 100_000:
        shares = {need.what: need.share for need in needs(figures, share, size, given, gateways)}
        if all(shares[what] <= 1 for what in MORE):
            return gateways
        gateways = max(gateways + 1, math.ceil(gateways * 1.05))
    return gateways


def queued(share: Share, size: Size, given: Given, gateways: int, *, calls: int, seed: int) -> Fleet:
    """Simulate what the gateways add to a call of this size."""
    few = min(gateways, MANY)
    remote = given.link_us / 1e6 if size.nodes > 1 else 0.0
    sent = given.row_us / 1e6 if gateways > 1 else 0.0
    return fleet(
        Share(share.wake, share.work + remote + sent, share.behind + sent),
        few,
        size.calls_s * few / gateways,
        forwarded=1 - 1 / gateways,
        peer=given.peer_us / 1e6,
        between=given.between_us / 1e6,
        calls=calls,
        seed=seed,
    )
