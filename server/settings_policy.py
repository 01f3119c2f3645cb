"""Where the policy is."""

from __future__ import annotations

from .settings_base import Group, setting


class PolicySettings(Group):
    """Who may do what. The rules are in a file of their own; `toolscore policy template` prints one to begin with."""

    file: str = setting(
        "",
        "a text: the path of a file",
        "The policy file; empty is policy.toml in the home, where there is one. A file that is named here must be "
        "there. It is read again when it changes.",
    )
