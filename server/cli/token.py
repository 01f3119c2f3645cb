"""`token`: what clients show to come in over the network. It needs no lock of the home, so one may run meanwhile."""

from __future__ import annotations

from argparse import Namespace

from ..home import Home, prepare
from ..settings import Loaded
from ..tokens import GENERATED, RIGHTS, TokenError, Tokens, UnknownTokenError
from .home_tokens import home_tokens
from .output import Output


def run(options: Namespace, loaded: Loaded, out: Output) -> int:
    """Show the generated token, or create, list or revoke named ones.

    Returns:
        The exit status.

    Raises:
        HomeError: If the home or its files of tokens cannot be used.
    """
    home = Home.at(loaded.settings.home)
    rights = frozenset[str](loaded.settings.network.rights)
    tokens = home_tokens(loaded, home)
    try:
        match options.what:
            case "show":
                prepare(home)
                _told(tokens.default(), GENERATED, rights, out)
            case "create":
                prepare(home)
                allowed = frozenset[str](options.allow)
                _told(tokens.create(options.name, allowed), options.name, allowed, out)
                out.remark("It is shown this once. Whoever has it may: " + ", ".join(_ordered(allowed)))
            case "revoke":
                tokens.revoke(options.name)
                if out.json_wanted:
                    out.document({"revoked": options.name})
                else:
                    out.line(f"revoked: {options.name}")
                    out.remark("Nobody comes in with it any more, and who is in is cut off within seconds.")
            case _:
                tokens.fetch()
                _list(tokens, rights, out)
    except UnknownTokenError as error:
        out.error(str(error))
        return 4
    except TokenError as error:
        out.error(str(error))
        return 1
    return 0


def _told(token: str, name: str, rights: frozenset[str], out: Output) -> None:
    if out.json_wanted:
        out.document({"name": name, "rights": _ordered(rights), "token": token})
    else:
        out.line(token)


def _list(tokens: Tokens, rights: frozenset[str], out: Output) -> None:
    # The generated one is there as soon as anything asks for it, and so is listed always.
    entries: list[tuple[str, list[str], str | None]] = [(GENERATED, _ordered(rights), None)]
    entries += [(entry.name, _ordered(entry.rights), entry.created) for entry in tokens.named()]
    if out.json_wanted:
        fields = ("name", "rights", "created")
        out.document({"tokens": [dict(zip(fields, entry, strict=True)) for entry in entries]})
        return
    rows = [(name, ",".join(allowed), created or "generated") for name, allowed, created in entries]
    out.table(("token", "allows", "created"), rows)


def _ordered(rights: frozenset[str]) -> list[str]:
    return [right for right in RIGHTS if right in rights]
