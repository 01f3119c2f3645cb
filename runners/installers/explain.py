"""Why uv, npm or git failed, in a sentence with the next step, read from what they wrote."""

from __future__ import annotations

import errno
import re

from ..errors import InstallError

DISK_FULL = (
    "The disk is full: free some space where ToolScore keeps its servers and where the download caches are"
)

# The first that matches wins: {0}, {1} are its groups, {subject} is what was to be installed.
_FIRST: tuple[tuple[str, str], ...] = (
    (
        r"[Nn]o space left on device|\bENOSPC\b|[Dd]isk quota exceeded|\bEDQUOT\b",
        f"{DISK_FULL}, and try again.",
    ),
    (
        r"invalid peer certificate|certificate verify failed|SSL certificate problem|SELF_SIGNED_CERT"
        r"|UNABLE_TO_(?:GET_ISSUER|VERIFY_LEAF)",
        "The index's certificate was not accepted; where a proxy re-signs traffic, set SSL_CERT_FILE (uv, "
        "git) and NODE_EXTRA_CA_CERTS (npm) to its certificate.",
    ),
    (
        r"network was disabled|\bENOTCACHED\b",
        "Installing is offline, and {subject} is not in the cache; go online.",
    ),
)
_OWN: dict[str, tuple[tuple[str, str], ...]] = {
    "npm": (
        (
            r"\bE404\b[\s\S]*?404\s+(?:The requested resource )?'(@?[^'@\s]+)@",
            "There is no package {0} in the npm registry (for {subject}); check the spelling, or try pypi:.",
        ),
        (
            r"\bE404\b",
            "The npm registry does not know {subject} or one of its dependencies; check the spelling.",
        ),
        (
            r"\bETARGET\b[\s\S]*?No matching version found for (\S+?)\.?\s",
            "There is no version {0}; leave out the version.",
        ),
        (
            r"\bE40[13]\b|\bENEEDAUTH\b",
            "The npm registry refused access; log in with `npm login`, or check its token.",
        ),
        (
            r"\bEBADENGINE\b",
            "{subject} needs another version of Node.js; install that version and try again.",
        ),
    ),
    "uv": (
        (
            r"[Hh]ash mismatch|\bhash(?:es)? (?:is|are|was|were)? ?(?:missing|mismatched)",
            "No file of {subject} in the Python package index has the checksum that it should have, so that it was "
            "not installed: somebody changed it, or the checksum is of another file.",
        ),
        (
            r"Because (\S+?)(?:\[\S*\])? was not found in the package registry",
            "There is no package {0} in the Python package index (for {subject}); check the spelling, or try "
            "npm:.",
        ),
        (
            r"current Python version \(([\d.]+)\) does not satisfy\s+Python\s*([<>=!~.,\d]+)",
            "{subject} needs Python {1}, and its environment would have Python {0}; configure an interpreter "
            "that fits, or ask for an older version with @VERSION.",
        ),
        (
            r"only (\S+?)([<>=]=?\S+) (?:is|are)\s+available\s+and\s+you\s+require",
            "There is no such version of {subject}: of {0} there is only {1}.",
        ),
        (
            r"Because there (?:is no version|are no versions) of (\S+)",
            "There is no version {0} in the index; leave out the version, or name one that exists.",
        ),
        (
            r"No solution found when resolving",
            "The requirements of {subject} contradict each other or the given constraints; see below for which.",
        ),
        (
            r"No interpreter found",
            "The Python interpreter for the environment was not found; configure one that exists.",
        ),
    ),
    "git": (
        (
            r"couldn't find remote ref (\S+)|unable to find remote ref|Needed a single revision|unknown revision",
            "{subject} has no such branch, tag or commit; check the part after @.",
        ),
        (
            r"could not read (?:Username|Password)|Authentication failed|Permission denied \(publickey"
            r"|Host key verification failed",
            "{subject} does not exist or needs a login; check the URL, or set up ssh keys or git's credential "
            "helper.",
        ),
        (r"transport '(\S+)' not allowed", "The transport {0} is not allowed; use https, ssh or file."),
        (
            r"[Rr]epository .*not found|does not appear to be a git repository|not a git repository"
            r"|does not exist",
            "There is no git repository at {subject}; check the URL.",
        ),
    ),
}
_LAST: tuple[tuple[str, str], ...] = (
    (
        r"error sending request|Failed to fetch|dns error|tcp connect error|Could not (?:connect|resolve)"
        r"|\b(?:ECONNREFUSED|ENOTFOUND|ETIMEDOUT|EAI_AGAIN|ENETUNREACH|EHOSTUNREACH|ECONNRESET)\b"
        r"|ERR_SOCKET_TIMEOUT"
        r"|Failed to connect|unable to access|Connection (?:refused|timed out)|Network is unreachable",
        "The server that holds {subject} cannot be reached; check the network, the proxy (HTTPS_PROXY) "
        "and the configured index, and try again.",
    ),
    (
        r"Failed to build|build backend|build_editable|ModuleNotFoundError|ELIFECYCLE|gyp ERR|command failed"
        r"|npm error code \d+",
        "Building {subject} failed; it may need a compiler or system libraries, which its documentation "
        "names.",
    ),
)


def explain(tool: str, subject: str, output: str) -> InstallError:
    """Make the error for an installing program that failed.

    Args:
        tool: `uv`, `npm` or `git`.
        subject: What was to be installed, as the user would name it.
        output: The end of what the program wrote.
    """
    for pattern, sentence in (*_FIRST, *_OWN.get(tool, ()), *_LAST):
        if match := re.search(pattern, output):
            groups = [" ".join((group or "").split()).rstrip(",.") for group in match.groups()]
            return InstallError(sentence.format(*groups, subject=subject), stderr=output)
    return InstallError(f"{tool} could not install {subject}; its own words follow.", stderr=output)


def explain_os(error: OSError, doing: str) -> InstallError:
    """Make the error for a file operation that failed.

    Args:
        error: What the system said.
        doing: What was being done, as in `copying the folder`.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return InstallError(f"{DISK_FULL}, and try again.")
    return InstallError(
        f"{doing} failed: {error.strerror or error}" + (f" ({error.filename})." if error.filename else ".")
    )
