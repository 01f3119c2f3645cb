"""A session of Streamable HTTP is good at every gateway, and goes on when the one that had it is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from behind import Gateway, Raw, gateways, text_of, wire
from postgres import Postgres


@pytest.fixture
def three(postgres: Postgres, tmp_path: Path) -> Iterator[list[Gateway]]:
    with gateways(tmp_path, postgres.database(), "a", "b", "c") as started:
        yield started


async def test_a_session_is_reached_through_every_gateway_and_goes_on_when_its_own_is_killed(
    three: list[Gateway],
) -> None:
    a, b, c = three
    async with wire() as http:
        client = Raw(http)
        await client.begin(a.http)
        for gateway in (a, b, c, b):
            answer = await client.call(gateway.http, "f__echo", text=gateway.name)
            assert gateway.name in text_of(answer)
        a.kill()
        for gateway in (b, c, b):
            answer = await client.call(gateway.http, "f__echo", text=gateway.name)
            assert gateway.name in text_of(answer)
        gone = await http.delete(c.http, headers=client.headers)
        assert gone.status_code == 200
        for gateway in (b, c):
            assert (await client.post(gateway.http, "ping")).status_code == 404
