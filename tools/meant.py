"""What a caller probably meant by a name there is not."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from .errors import echoed
from .outcome import Outcome, RefusalError

_LONGEST = 256


def did_you_mean(near: Sequence[str]) -> str:
    """Ask whether one of some names was meant."""
    return "Did you mean " + " or ".join(f"'{one}'" for one in near) + "?"


def unknown_server(name: str, names: Iterable[str]) -> RefusalError:
    """Make the refusal of a server there is not.

    Args:
        name: What it was called.
        names: The servers there are.
    """
    near = difflib.get_close_matches(name, list(names), n=3, cutoff=0.5) if len(name) <= _LONGEST else []
    hint = did_you_mean(near) if near else "list_servers shows the names there are."
    return RefusalError(
        Outcome.UNKNOWN_SERVER, f"There is no server named '{echoed(name)}'. {hint}", nearest=near or None
    )
