"""`authorize`: a person, or a machine's credentials, let ToolScore use a server that asks for OAuth."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import webbrowser
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from ...runners.authorization import machine_for, obtain, person_for, target
from ...runners.errors import AuthorizationNeededError, RunnerError, StartError
from ...runners.spec import silent
from ...tools.secrets import Secrets
from ...tools.vault import SecretsVault
from ..home import Home
from ..settings import Settings
from .backend import Backend, open_backend
from .callback import Callback, DeniedError
from .output import Output
from .results import structured

if TYPE_CHECKING:
    from mcp.shared.auth import AuthorizationCodeResult

PATIENCE = 300.0
"""Seconds a person has to authorize."""

Target = tuple[str, dict[str, str]]


async def run(options: Namespace, settings: Settings, out: Output) -> int:
    """Authorize one server, and start it with what was granted.

    Returns:
        The exit status.
    """
    secret = os.environ.get(options.client_secret_env or "")
    if problem := _problem(options, secret):
        out.error(problem)
        return 2
    # The SDK logs each failure with its traceback, and nothing else would be between that and the terminal.
    logging.getLogger("mcp").setLevel(logging.CRITICAL + 1)
    vault = SecretsVault(Secrets(Home.at(settings.home).secrets_file))
    name = options.name
    try:
        # The home is not held while a person is waited for.
        async with open_backend(settings, out.remark) as backend:
            server = await _server(backend, name)
            if server is None:
                out.error(f"there is no server named '{name}'; `toolscore list` shows those there are.")
                return 4
            at = target(vault.load(name)) or await _asked(backend, server, vault)
        if options.client_id:
            await _machine(options, at, secret or "", vault)
        else:
            await _person(options, at, vault, out)
        async with open_backend(settings, out.remark) as backend:
            state = await _started(backend, server)
    except AuthorizationNeededError as failure:
        out.error(f"'{name}' was not authorized. {failure.why}".rstrip())
        return 1
    except RunnerError as failure:
        out.error(failure.message)
        return 1
    if out.json_wanted:
        out.document({"name": name, "authorized": True, "state": state})
    else:
        out.line(f"authorized {name}: {state.lower()}")
    return 0


def _problem(options: Namespace, secret: str | None) -> str | None:
    if bool(options.client_id) != bool(options.client_secret_env):
        return "--client-id and --client-secret-env go together"
    if options.issuer and not options.client_id:
        return "--issuer goes with --client-id"
    if options.issuer and not options.issuer.startswith(("http://", "https://")):
        return "--issuer is a url that starts with https:// (or http://)"
    if options.client_id and not secret:
        return (
            f"the environment variable {options.client_secret_env} is not set, or empty: put the secret there"
        )
    return None


async def _server(backend: Backend, name: str) -> dict[str, Any] | None:
    servers = structured(await backend.call("list_servers", {}, silent))["servers"]
    return next((server for server in servers if server["name"] == name), None)


async def _asked(backend: Backend, server: dict[str, Any], vault: SecretsVault) -> Target:
    """Have the server asked once more, so that it is known where it wants to be authorized.

    The owner knows what its url and headers are once their variables are filled in; this process does not.
    """
    name = server["name"]
    if not server["enabled"]:
        raise StartError(f"'{name}' is disabled: run `toolscore manage {name} enable` first.")
    result = await backend.call("manage_server", {"name": name, "action": "restart"}, silent)
    found = target(vault.load(name))
    if found is None:
        structured(result)  # which tells if it failed for another reason
        raise StartError(f"'{name}' does not ask for authorization; it is ready as it is.")
    return found


async def _machine(options: Namespace, at: Target, secret: str, vault: SecretsVault) -> None:
    url, headers = at
    provider = machine_for(
        options.name,
        url,
        vault,
        headers=headers,
        client_id=options.client_id,
        client_secret=secret,
        issuer=options.issuer,
    )
    await obtain(options.name, url, headers, provider)


async def _person(options: Namespace, at: Target, vault: SecretsVault, out: Output) -> None:
    url, headers = at
    async with Callback.listening() as callback:

        async def redirect(address: str) -> None:
            callback.expect(address)
            # Not a remark: without it nothing can go on, also with --quiet.
            out.error(f"To authorize '{options.name}', visit:\n{address}", name=False)
            if not options.no_browser and has_browser():
                await asyncio.to_thread(webbrowser.open, address)

        async def came() -> AuthorizationCodeResult:
            from mcp.shared.auth import AuthorizationCodeResult

            try:
                async with asyncio.timeout(PATIENCE):
                    given = await callback.came()
            except TimeoutError:
                raise StartError(
                    f"nobody authorized '{options.name}' within {PATIENCE / 60:.0f} minutes. Run the command again."
                ) from None
            except DeniedError as denied:
                raise StartError(f"'{options.name}' was not authorized: {denied}.") from denied
            return AuthorizationCodeResult(code=given["code"], state=given.get("state"), iss=given.get("iss"))

        provider = person_for(
            options.name,
            url,
            vault,
            headers=headers,
            redirect_uri=callback.uri,
            redirect=redirect,
            callback=came,
        )
        await obtain(options.name, url, headers, provider)


def has_browser() -> bool:
    """Tell whether a browser would have a screen of its own; one in this terminal would take it over."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


async def _started(backend: Backend, server: dict[str, Any]) -> str:
    """Have the server started with its new tokens, which also brings its tools into the library."""
    if not server["enabled"]:
        return "disabled"
    asked = {"name": server["name"], "action": "restart"}
    return str(structured(await backend.call("manage_server", asked, silent))["state"])
