"""A command line passed on to a `serve` in the background."""

from __future__ import annotations

from argparse import Namespace

from ..home import Home
from ..settings import Loaded


def passed(options: Namespace, loaded: Loaded) -> list[str]:
    """Give the options of a command line in the form in which they are passed on to a `serve` in the background."""
    home = Home.at(loaded.settings.home)
    # Absolute, because it runs in another directory; the file only if one was named, so that it may come later.
    words = ["--home", str(home.path)]
    if loaded.config_file != home.config_file:
        words += ["--config", str(loaded.config_file)]
    for key, value in options.set.items():
        words += ["--set", f"{key}={value}"]
    for address in options.listen:
        words += ["--listen", address]
    return [*words, "--no-token"] if options.no_token else words
