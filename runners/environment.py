"""The environment of a child: a white list, what its spec names, and nothing else of ToolScore's own."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

MARKER = "TOOLSCORE_CHILD_ID"
"""Variable whose random value proves that a process was started by ToolScore, also after its parent died."""

NEVER = frozenset(
    {"TOOLSCORE_PASSPHRASE", "TOOLSCORE_PASSPHRASE_FILE", "TOOLSCORE_TOKEN", "TOOLSCORE_TOKEN_FILE"}
    | {"TOOLSCORE_DATABASE_URL"}
)
"""What no child is ever given, whatever its spec or the settings name: what opens its secrets, store or door."""

ALWAYS = frozenset(
    [
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "LANG",
        "LANGUAGE",
        "TZ",
        "TMPDIR",
        "TEMP",
        "TMP",
        "TERM",
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
        "XDG_STATE_HOME",
        "XDG_RUNTIME_DIR",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "NODE_EXTRA_CA_CERTS",
        "NO_PROXY",
        "no_proxy",
    ]
)
"""What nearly every program needs and what holds no secret."""

WINDOWS = frozenset(
    [
        "APPDATA",
        "HOMEDRIVE",
        "HOMEPATH",
        "LOCALAPPDATA",
        "PATHEXT",
        "PROCESSOR_ARCHITECTURE",
        "SYSTEMDRIVE",
        "SYSTEMROOT",
        "USERNAME",
        "USERPROFILE",
        "COMSPEC",
        "WINDIR",
        "PROGRAMDATA",
    ]
)
"""The same for Windows, where a program without SYSTEMROOT cannot even open a socket."""

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
"""Handed on unless they hold credentials."""

LAUNCHERS = frozenset({"uv", "uvx", "npx", "npm", "pnpm", "bunx", "yarn", "pipx"})
"""Programs that fetch what they start, and so need the settings of the package indexes."""

LAUNCHER_PREFIXES = ("UV_", "npm_config_", "NPM_CONFIG_", "PIP_", "PIPX_", "NODE_OPTIONS")
"""Those settings: mirrors, proxies, caches and certificates of uv, npm and pip."""


SYSTEM_CERTIFICATES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where systems keep the certificates they trust, those of a company's own proxy included."""


def certificates(ours: Mapping[str, str]) -> dict[str, str]:
    """Point uv and Node to the system's certificates, which neither looks at by itself.

    MCP clients start servers with a short environment, in which the variables that a person's shell sets for a
    company's proxy are missing.

    Args:
        ours: ToolScore's own environment; what is set there wins.
    """
    bundle = next((path for path in SYSTEM_CERTIFICATES if Path(path).is_file()), None)
    if bundle is None:
        return {}
    found = {}
    if not {"UV_SYSTEM_CERTS", "UV_NATIVE_TLS", "SSL_CERT_FILE"} & ours.keys():
        found["UV_SYSTEM_CERTS"] = "true"
    if "NODE_EXTRA_CA_CERTS" not in ours:
        found["NODE_EXTRA_CA_CERTS"] = bundle
    return found


def child_environment(
    ours: Mapping[str, str],
    *,
    spec_env: Mapping[str, str],
    program: str,
    pass_env: Iterable[str] = (),
) -> dict[str, str]:
    """Make the environment of one child.

    Args:
        ours: ToolScore's own environment.
        spec_env: What the server's spec names, already expanded; it wins.
        program: The program to be started; a launcher also gets the settings of its package index.
        pass_env: Further names every child receives.
    """
    launcher = Path(program).stem.lower() in LAUNCHERS
    named = (ALWAYS | set(pass_env) | (WINDOWS if sys.platform == "win32" else frozenset())) - NEVER
    environment = certificates(ours) if launcher else {}
    for name, value in ours.items():
        if (
            name in named
            or name.startswith("LC_")
            or (name in PROXIES and (launcher or "@" not in value))
            or (launcher and name.startswith(LAUNCHER_PREFIXES))
        ):
            environment[name] = value
    environment.update(spec_env)
    return environment
