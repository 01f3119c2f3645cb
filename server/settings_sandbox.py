"""Where and how the code of the python-executor runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ..sandbox.limits import Limits
from ..sandbox.requirements import NAME, REQUIREMENT
from .settings_base import Group, setting

MIB, KIB = 1 << 20, 1 << 10
_LIMITS = Limits()

_Requirement = Annotated[str, Field(pattern=rf"^{REQUIREMENT}$")]


class SandboxSettings(Group):
    """The python-executor: the built-in server that runs code in a sandbox. Times in seconds."""

    enabled: bool = setting(True, "true or false", "Whether there is the built-in server python-executor.")
    mode: Literal["separate", "embedded", "cluster"] = setting(
        "separate",
        "separate, embedded or cluster",
        "Whether the executor is a process of its own, a part of ToolScore's, or there is one on each node of a Ray "
        "cluster; the code runs in a box in any case.",
    )
    minimum: Literal["full", "reduced", "limits"] = setting(
        "reduced",
        "full, reduced or limits",
        "The weakest isolation that code is run with: full (namespaces, Landlock, system call filter), reduced "
        "(without namespaces), or limits, which protects from mistakes only, not from an attacker.",
    )
    wall: float = setting(_LIMITS.wall, "a number of seconds above 0", "Seconds an execution may take.", gt=0)
    cpu: float = setting(
        _LIMITS.cpu, "a number of seconds above 0", "Seconds of processor time an execution may use.", gt=0
    )
    memory: int = setting(
        _LIMITS.memory // MIB,
        "a whole number of MiB, 32 or more",
        "MiB of memory an execution may use, with all it starts.",
        ge=32,
    )
    processes: int = setting(
        _LIMITS.processes,
        "a whole number, 1 or more",
        "Processes and threads an execution may have at the same time.",
        ge=1,
    )
    open_files: int = setting(
        _LIMITS.open_files,
        "a whole number, 16 or more",
        "Files that each process of an execution may have open.",
        ge=16,
    )
    disk: int = setting(
        _LIMITS.disk // MIB,
        "a whole number of MiB, 1 or more",
        "MiB an execution may write into its working folder, and as many into /tmp. They count as memory.",
        ge=1,
    )
    output: int = setting(
        _LIMITS.output // KIB,
        "a whole number of KiB from 1 to 65536",
        "KiB an execution may write on standard output, and as many on standard error; more ends it.",
        ge=1,
        le=65536,
    )
    packages: tuple[_Requirement, ...] = setting(
        (),
        "a list of packages such as numpy or pandas==2.3.0",
        "Packages that all code finds beside the standard library.",
    )
    preload: tuple[Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*$")], ...] = setting(
        (),
        "a list of modules such as numpy",
        "Modules, of the packages or the standard library, that are imported beforehand, so that code finds them "
        "loaded.",
    )
    allow_packages: tuple[Annotated[str, Field(pattern=rf"^(?:\*|{NAME})$")], ...] = setting(
        (),
        "a list of names of packages, or *",
        "Further packages that a call may ask for; * is any. They are fetched from the package index.",
    )
    warm: int = setting(
        2, "a whole number from 0 to 64", "Boxes kept ready for the next executions.", ge=0, le=64
    )
    most: int = setting(
        8, "a whole number, 1 or more", "Executions at the same time; further ones wait.", ge=1
    )
    session_ttl: float = setting(
        3600.0, "a number of seconds above 0", "Seconds a session lives at the most.", gt=0
    )
    session_idle: float = setting(
        600.0, "a number of seconds above 0", "Seconds after which a session that is not used ends.", gt=0
    )
    sessions: int = setting(
        4, "a whole number, 0 for none", "Sessions each caller may have at the same time.", ge=0
    )
    tools: tuple[Annotated[str, Field(pattern=r"^\S+$")], ...] = setting(
        (),
        "a list of names of callers such as owner, or patterns such as *",
        "Callers whose code may call tools from inside the box, in their name: owner is whoever started ToolScore, "
        "others have the names of their tokens. Empty is nobody.",
    )
    cluster_cpu: float = setting(
        0.0,
        "a number of processors, 0 for none",
        "With mode cluster: processors that are reserved with Ray for each execution a node has a place for; a node "
        "has no more places than it has free processors for them. 0 reserves none.",
        ge=0,
    )
    cluster_labels: tuple[Annotated[str, Field(pattern=r"^[^=\s]+=\S*$")], ...] = setting(
        (),
        "a list of labels such as sandbox=true",
        "With mode cluster: labels that nodes must have for code to run there. Empty is any node.",
    )
    cluster_fallback: bool = setting(
        False,
        "true or false",
        "With mode cluster: whether code runs on ToolScore's own machine while no node of the cluster can be used.",
    )
