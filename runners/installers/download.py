"""A bundle from the web: fetched within limits, and nothing to anybody before its checksum is right."""

from __future__ import annotations

import hashlib
import hmac
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit

import anyio

from ..errors import InstallError
from .archive import MAX_BYTES
from .explain import explain_os
from .run import Job
from .source import is_fetchable

if TYPE_CHECKING:
    import httpx2

REDIRECTS = 5
SILENCE = 30.0
"""Seconds without a byte after which a download is given up."""
PAUSE = 0.5
"""Seconds between two reports of how far it is."""


async def download(job: Job, url: str, sha256: str) -> Path:
    """Fetch a file into the folder of a job.

    Args:
        job: The installation this is a part of.
        url: Where it is; `https`, or `http` on this machine.
        sha256: The checksum it must have, in lower-case hexadecimal digits.

    Returns:
        The file, whose checksum was right.

    Raises:
        InstallError: If it cannot be fetched, is too large, or is another file than it should be.
    """
    path = job.directory / "bundle.mcpb"
    name = shown(url)
    await job.say(f"downloading {name}")
    try:
        with anyio.fail_after(job.left()):
            found = await _fetch(job, url, path, name)
    except TimeoutError:
        raise InstallError(
            f"Installing took longer than {job.timeout:g} seconds and was stopped while {name} was being "
            "downloaded; try again, or allow it more time with the setting install.timeout."
        ) from None
    except OSError as error:
        raise explain_os(error, f"Downloading {name}") from None
    if not hmac.compare_digest(found, sha256):
        raise InstallError(
            f"{name} is not the file it should be: its SHA-256 is {found}, and {sha256} is expected. It may have "
            "been replaced since it was published, or on its way here. Nothing of it was unpacked or kept; try "
            "another version, or tell its author."
        )
    return path


async def _fetch(job: Job, url: str, path: Path, name: str) -> str:
    """Write a file and give the checksum of what was written."""
    import httpx2

    begun = urlsplit(url).scheme
    headers = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "toolscore"}
    # A proxy of the environment leads nowhere from this machine to itself.
    timeout = httpx2.Timeout(SILENCE)
    async with httpx2.AsyncClient(headers=headers, timeout=timeout, trust_env=begun == "https") as client:
        try:
            for _ in range(REDIRECTS + 1):
                async with client.stream("GET", url, follow_redirects=False) as response:
                    if not response.is_redirect:
                        return await _write(job, response, path, name)
                    url = _next(url, response.headers.get("location", ""), begun, name)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            # Not its text where there is none, and never the address, which may hold a signature by now.
            why = str(error).replace(url, name) or type(error).__name__
            raise InstallError(
                f"{name} could not be downloaded ({why}); check the network and the proxy (HTTPS_PROXY), and "
                "try again."
            ) from None
    raise InstallError(f"{name} was not downloaded: its server redirects more than {REDIRECTS} times.")


def _next(url: str, location: str, begun: str, name: str) -> str:
    """Give where a redirect leads, if that is a place to follow it to."""
    to = ""
    try:
        to = urljoin(url, location)
        # What began encrypted and elsewhere does not end in the clear, nor at this machine's own services.
        fine = bool(location) and is_fetchable(to) and urlsplit(to).scheme in ("https", begun)
    except ValueError:
        fine = False
    if not fine:
        raise InstallError(
            f"{name} was not downloaded: its server redirects to a place that is not https, which is not followed."
        )
    return to


async def _write(job: Job, response: httpx2.Response, path: Path, name: str) -> str:
    if response.status_code != 200:
        step = (
            "check the address and the version" if response.status_code in (404, 410) else "try again later"
        )
        raise InstallError(
            f"{name} could not be downloaded: its server answers {response.status_code}; {step}."
        )
    announced = response.headers.get("content-length", "")
    total = int(announced) if announced.isascii() and announced.isdigit() else None
    if total is not None and total > MAX_BYTES:
        raise _too_large(name)
    digest, done, reported = hashlib.sha256(), 0, time.monotonic()
    async with await anyio.open_file(path, "xb") as file:
        # Raw: what the server calls compressed is not unpacked on the way, and the checksum is of the file itself.
        async for chunk in response.aiter_raw(1 << 18):
            done += len(chunk)
            if done > MAX_BYTES:
                raise _too_large(name)
            digest.update(chunk)
            await file.write(chunk)
            if time.monotonic() - reported >= PAUSE:
                reported = time.monotonic()
                await job.say(
                    f"downloading {name}: {_amount(done)}{f' of {_amount(total)}' if total else ''}"
                )
    await job.say(f"downloaded {name}: {_amount(done)}")
    return digest.hexdigest()


def _too_large(name: str) -> InstallError:
    return InstallError(f"{name} is larger than {MAX_BYTES >> 20} MiB and was not downloaded.")


def _amount(count: int) -> str:
    return f"{count} bytes" if count < 1 << 20 else f"{count / (1 << 20):.1f} MiB"


def shown(url: str) -> str:
    """Give the name a download has in reports and errors: host and file, without what may be a secret."""
    parts = urlsplit(url)
    return f"{unquote(parts.path.rpartition('/')[2]) or 'the bundle'} of {parts.hostname}"
