"""Carrying out an import: secrets to the secrets, servers into ToolScore's file, both or neither."""

from __future__ import annotations

from pathlib import Path

from ...tools.declared import TABLE
from ...tools.named import NamedSecrets
from .form import form_of_config
from .found import text_of
from .plan import Plan
from .rewriting import rewrite


def apply(made: Plan, config: Path, named: NamedSecrets) -> Path | None:
    """Write what was planned.

    Args:
        made: The plan.
        config: ToolScore's file of settings, which need not be there.
        named: Where secrets are kept.

    Returns:
        The copy of what the file was; `None` where it was not there.

    Raises:
        OSError: If the file cannot be written.
        SecretsError: If a secret cannot be kept.
        ValueError: If the file is not well-formed any more.
    """
    text = text_of(config) if config.exists() else ""
    for one in made.taken:
        text = form_of_config(config).put(text, (TABLE, one.name), one.entry)
    kept: list[str] = []
    try:
        for one in made.taken:
            for name, value in one.secrets.items():
                named.set(name, value)
                kept.append(name)
        return rewrite(config, text)
    except BaseException:
        for name in kept:
            named.delete(name)
        raise
