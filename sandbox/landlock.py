"""Landlock: which files a process and all its children reach, whatever their user may do.

References: landlock(7), https://docs.kernel.org/userspace-api/landlock.html.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .errors import LayerError
from .lookup import without_search

if TYPE_CHECKING:
    from landlockpy import AccessFS, Ruleset

_ABSENT = {
    errno.ENOSYS: "ENOSYS: this kernel has none; it came with 5.13, and some containers filter it out",
    errno.EOPNOTSUPP: "EOPNOTSUPP: switched off at boot: add landlock to the kernel's lsm= parameter",
}


TRUNCATE = 3
"""The ABI from which on a file that can only be read cannot be opened with O_TRUNC, which empties it."""


def prepare() -> int:
    """Find out what the kernel offers, and load all that `restrict` needs, so that forks of this process can.

    Returns:
        The version of the kernel's interface (its ABI), 1 or more.

    Raises:
        LayerError: If there is no Landlock.
    """
    abi = _abi()
    # Once without effect, so that what is slow about the first time (flags are built as they are met) is over.
    try:
        _rules(
            abi, ["/", "/dev/null"], ["/"], ["/dev/null"], execute=True, network=False, optional=True
        ).close()
    except OSError as error:
        raise LayerError(f"ABI {abi}, but: {error}") from None
    return abi


def numbers() -> dict[str, Any]:
    """Give what `linux.restrict_files` needs for a payload, for processes that do not load the library.

    Returns:
        `handled` and `flags` as that function has them; `read`, `change` and `device`: what may be done below a
        folder that is readable, one that is writable, and with a device; `file`: what of it a rule for a mere file
        can carry.

    Raises:
        LayerError: If there is no Landlock.
    """
    abi = prepare()
    from landlockpy import RestrictFlag, fs_for_abi, net_for_abi, restrict_for_abi, scope_for_abi

    files = fs_for_abi(abi)
    read, change, device = _rights(abi, execute=True)
    return {
        "handled": [int(files), int(net_for_abi(abi)), int(scope_for_abi(abi))],
        "flags": int(RestrictFlag.LOG_SAME_EXEC_OFF & restrict_for_abi(abi)),
        "read": int(read & files),
        "change": int(change & files),
        "device": int(device & files),
        "file": int(_file_rights() & files),
    }


def _abi() -> int:
    if not sys.platform.startswith("linux"):
        raise LayerError(f"Landlock is Linux's, this is {sys.platform}")
    try:
        from landlockpy import LandlockError, _syscall
    except ImportError as error:
        raise LayerError(f"the library landlockpy is not installed: {error}") from None
    try:
        with without_search():
            return _syscall.abi_version()
    except LandlockError as error:
        raise LayerError(_ABSENT.get(error.errno or 0, str(error))) from None


def restrict(
    readable: Iterable[str],
    writable: Iterable[str],
    devices: Iterable[str] = (),
    *,
    execute: bool = True,
    network: bool = False,
    optional: bool = False,
) -> str:
    """Confine the calling thread, and all it starts from now on, to these files. Cannot be undone.

    Everything the kernel's version can control is denied but for what is named here, signals and abstract
    sockets out of the box included. Sets no_new_privs. Descriptors that are open already stay usable.

    Args:
        readable: Files and folders, with all below them, that can be read.
        writable: The same, and changed; device files cannot be made in them.
        devices: Device files that can be read and written, such as `/dev/null`.
        execute: Whether what can be read can also be executed.
        network: Whether the network can be used. If not, no port can be bound or connected to.
        optional: Whether a path that does not exist is left out rather than an error.

    Returns:
        What is confined now, such as `ABI 7: files, TCP, signals, abstract sockets`.

    Raises:
        LayerError: If it cannot be had, or is less than the kernel's version promises. The process may be
            confined in part by then and should end.
    """
    abi = _abi()
    from landlockpy import AccessNet, RestrictFlag, fs_for_abi, net_for_abi, restrict_for_abi, scope_for_abi

    asked = (fs_for_abi(abi), AccessNet.NONE if network else net_for_abi(abi), scope_for_abi(abi))
    try:
        with _rules(
            abi, readable, writable, devices, execute=execute, network=network, optional=optional
        ) as rules:
            if (rules.handled_fs, rules.handled_net, rules.scoped) != asked:
                raise LayerError(f"ABI {abi}, but less became of it than was asked for")
            # Denials are the code's doing and could fill the audit log.
            rules.restrict(RestrictFlag.LOG_SAME_EXEC_OFF & restrict_for_abi(abi))
            if not rules.enforced:
                raise LayerError(f"ABI {abi}, but it was not enforced")
    except OSError as error:
        raise LayerError(f"ABI {abi}, but: {error}") from None
    held = ["files"]
    if rules.handled_net:
        held.append("TCP and UDP" if AccessNet.BIND_UDP in rules.handled_net else "TCP")
    if rules.scoped:
        held += ["signals", "abstract sockets"]
    return f"ABI {abi}: {', '.join(held)}"


def _rules(
    abi: int,
    readable: Iterable[str],
    writable: Iterable[str],
    devices: Iterable[str],
    *,
    execute: bool,
    network: bool,
    optional: bool,
) -> Ruleset:
    """Put the rules together, which confine nobody yet."""
    from landlockpy import AccessNet, Ruleset, fs_for_abi, net_for_abi, scope_for_abi

    files = fs_for_abi(abi)
    read, change, device = _rights(abi, execute=execute)
    rules = Ruleset(
        handled_fs=files,
        handled_net=AccessNet.NONE if network else net_for_abi(abi),
        scoped=scope_for_abi(abi),
        best_effort=False,  # that mode drops what it cannot have without a word
    )
    try:
        for paths, access in ((readable, read), (writable, change), (devices, device)):
            for path in paths:
                try:
                    rules.allow_path(path, access & _fitting(path, files))
                except FileNotFoundError:
                    if not optional:
                        raise
    except BaseException:
        rules.close()
        raise
    return rules


def _rights(abi: int, *, execute: bool) -> tuple[AccessFS, AccessFS, AccessFS]:
    """Give what can be done with what is readable, writable, and a device."""
    from landlockpy import AccessFS, fs_for_abi

    read = AccessFS.READ_FILE | AccessFS.READ_DIR | (AccessFS.EXECUTE if execute else AccessFS.NONE)
    # What a device file answers to ioctl is its driver's matter; nothing here needs it.
    never = AccessFS.EXECUTE | AccessFS.MAKE_CHAR | AccessFS.MAKE_BLOCK | AccessFS.IOCTL_DEV
    return read, fs_for_abi(abi) & ~never | read, AccessFS.READ_FILE | AccessFS.WRITE_FILE


def _fitting(path: str, files: AccessFS) -> AccessFS:
    """Give the rights that a rule for this path can carry: most make sense for folders only (EINVAL)."""
    if stat.S_ISDIR(os.stat(path).st_mode):  # noqa: PTH116 - pathlib is not loaded here
        return files
    return files & _file_rights()


def _file_rights() -> AccessFS:
    from landlockpy import AccessFS

    return (
        AccessFS.EXECUTE | AccessFS.READ_FILE | AccessFS.WRITE_FILE | AccessFS.TRUNCATE | AccessFS.IOCTL_DEV
    )
