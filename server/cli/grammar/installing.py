"""The grammar of `install`, `register` and `uninstall`."""

from __future__ import annotations

import argparse

from .values import FORCE, Command, add_repeatable, pair


def add_to(command: Command) -> None:
    """Add the grammar to the command line."""
    install = command("install", "Install a server; what follows `--` are its arguments.", json=True)
    install.usage = (
        "toolscore install SOURCE [--name NAME] [--env K=V]... [--give K=V]... [--confine] [--cluster] "
        "[--json] [-- ARGS...]"
    )
    install.add_argument(
        "source",
        metavar="SOURCE",
        help="pypi:NAME[@VERSION], npm:NAME[@VERSION], git+URL[@REF], a folder, an .mcpb file or its "
        "https://...#sha256=CHECKSUM, docker:IMAGE[:TAG][@sha256:DIGEST] or docker:./FOLDER, "
        "registry:NAME[@VERSION][#KIND] of the catalog, 'command: ...', or builtin:NAME for a part of ToolScore: "
        "memory, or one that was uninstalled",
    )
    install.add_argument("--name", help="the server's name; otherwise made from the source")
    _env(install)
    add_repeatable(
        install,
        "--give",
        "KEY=VALUE",
        "what a registry: entry or a bundle asks for by name (repeatable)",
        dest="settings",
        kind=pair,
    )
    _confine(install)
    _contain(install)
    _cluster(install)
    _accept(install)
    register = command("register", "Register a server that is already there.", json=True)
    register.usage = (
        "toolscore register NAME [--url URL] [--header K=V]... [--env K=V]... [--confine] [--cluster] "
        "[--json] [-- COMMAND ARGS...]"
    )
    register.add_argument("name", metavar="NAME")
    register.add_argument("--url", help="a ws://, wss://, http:// or https:// endpoint")
    add_repeatable(register, "--header", "KEY=VALUE", kind=pair)
    _env(register)
    _confine(register)
    _cluster(register)
    _accept(register)
    uninstall = command("uninstall", "Remove a server and everything installed for it.", json=True)
    uninstall.add_argument("name", metavar="NAME")
    uninstall.add_argument("--force", action="store_true", help=FORCE)
    uninstall.add_argument(
        "--volumes", action="store_true", help="delete its volumes (@NAME) too, with all data in them"
    )


def _accept(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--accept-findings", action="store_true", help="approve its tools whatever is found in them"
    )


def _confine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "confinement (docs/servers.md)", "Any of these confines it: read-only files, no network."
    )
    group.add_argument("--confine", action="store_true", help="with nothing else opened")
    for option, text in (
        ("--allow-write", "a folder it can write besides its own (repeatable)"),
        ("--allow-read", "a place it can read although it is hidden (repeatable)"),
        ("--hide", "a place it does not see (repeatable)"),
    ):
        add_repeatable(group, option, "PATH", text)
    group.add_argument("--allow-network", action="store_true", help="leave it the network")


def _contain(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "containers (docs/containers.md)",
        "What opens the container of a docker: source, which is closed otherwise.",
    )
    group.add_argument("--url", help="where it listens, such as http://127.0.0.1:${PORT}/mcp")
    group.add_argument(
        "--service",
        metavar="PROBE",
        nargs="?",
        const="image",
        help="a plain service, no MCP server; PROBE is tcp:PORT, http:PORT/PATH, 'command: PROGRAM ARGS', or image "
        "for the image's own HEALTHCHECK",
    )
    group.add_argument(
        "--network",
        metavar="NAME",
        help="bridge, host, the name of a network, or @NAME[:internal] for one of ToolScore's own",
    )
    for option, metavar, text in (
        (
            "--volume",
            "SOURCE:TARGET[:rw]",
            "a folder, a named volume, or @NAME for one of ToolScore's own; read-only without :rw (repeatable)",
        ),
        ("--alias", "NAME", "a further name on its network (repeatable)"),
        ("--publish", "PORT:INSIDE", "a port, on loopback (repeatable)"),
        ("--tmpfs", "PATH[:OPTIONS]", "a folder in memory (repeatable)"),
        ("--capability", "NAME", "one of root's powers it keeps (repeatable)"),
    ):
        add_repeatable(group, option, metavar, text)
    group.add_argument("--user", metavar="USER[:GROUP]", help="whom it runs as")
    group.add_argument("--writable", action="store_true", help="let it write its root file system")
    group.add_argument("--memory", metavar="SIZE", help="such as 512m or 2g")
    group.add_argument("--cpus", type=float, metavar="NUMBER", help="processors it may keep busy")
    group.add_argument("--pids", type=int, metavar="NUMBER", help="processes and threads it may have")


def _cluster(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "a Ray cluster (docs/cluster.md)", "Any of these runs it on a node of the cluster."
    )
    group.add_argument("--cluster", action="store_true", help="on any node")
    group.add_argument("--cluster-cpu", type=float, metavar="N", help="processors reserved for it")
    group.add_argument("--cluster-memory", type=int, metavar="MIB", help="memory reserved for it")
    for option, name, text in (
        ("--cluster-resource", "NAME=AMOUNT", "what else is reserved for it (repeatable)"),
        ("--cluster-label", "NAME=VALUE", "a label its node must have (repeatable)"),
    ):
        add_repeatable(group, option, name, text, kind=pair)
    group.add_argument("--cluster-node", metavar="NODE", help="the one node, by id, name or address")


def _env(parser: argparse.ArgumentParser) -> None:
    add_repeatable(parser, "--env", "KEY=VALUE", "for the server (repeatable)", kind=pair)
