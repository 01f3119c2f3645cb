"""The tokens of a home, for commands that show one or make one."""

from __future__ import annotations

from ..given_token import given
from ..home import Home
from ..settings import Loaded
from ..tokens import Tokens


def home_tokens(loaded: Loaded, home: Home) -> Tokens:
    """Give the tokens of a home; named ones lie in the database, where several gateways share one.

    Args:
        loaded: The settings.
        home: The home they are of.
    """
    where = ""
    if loaded.settings.database.url:
        from ..database_home import store_of

        where = str(store_of(loaded.settings, home))
    return Tokens(home, frozenset[str](loaded.settings.network.rights), given(), where)
