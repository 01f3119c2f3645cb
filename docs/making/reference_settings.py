"""The page of all settings, from the models that read them."""

from __future__ import annotations

import json
from typing import Any

from markdown_cells import cell, code

from toolscore.server.settings import options
from toolscore.server.settings_hot import HOT
from toolscore.server.settings_model import Settings

_HEAD = """\
# Every setting

Stronger from left to right: default, `config.toml`, environment, `--set KEY=VALUE`. Of the environment's names for
one setting the first that is set counts. In the file, `log.level` is `level` under `[log]`. What is marked *at once*
takes effect when the file changes; all else at the next start ([how a reload goes](../configuration.md#reload)).
`toolscore config show --origin` tells what holds and where it comes from. The home itself is `TOOLSCORE_HOME` or
`--home`, the file `TOOLSCORE_CONFIG` or `--config`.
"""
_KINDS = {
    "integer": "whole number",
    "number": "number",
    "text": "text",
    "list": "list of texts",
    "boolean": "true or false",
}


def page() -> str:
    """Write the page."""
    parts = [_HEAD]
    group = ""
    for key, option in options().items():
        if option.group != group:
            group = option.group
            model: Any = Settings.model_fields[group].annotation
            said = (model.__doc__ or "").strip().partition("\n")[0]
            parts.append(f"\n## {group}\n\n{said}\n")
            parts.append("| setting | default | what it does | environment | takes effect |")
            parts.append("|---|---|---|---|---|")
        default = option.default
        shown = json.dumps(list(default) if isinstance(default, tuple) else default, ensure_ascii=False)
        about = f"{cell(option.description)} *{_KINDS[option.kind].capitalize()}*: {cell(option.expects)}."
        names = "<br>".join(code(name) for name in option.environment)
        when = "at once" if key in HOT else "next start"
        parts.append(f"| {code(key)} | {code(shown)} | {about} | {names} | {when} |")
    return "\n".join(parts)
