"""Run code in the sandbox from a program of your own, without a ToolScore around it.

    python examples/sandbox.py

The executor is an MCP server over stdio. Through ToolScore its tools are the same, with `python-executor__` before
their names.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

EXECUTOR = StdioServerParameters(
    command=sys.executable,
    args=["-m", "toolscore.sandbox", "--wall", "10"],
)

ANALYSIS = """
import csv
with open("sales.csv") as file:
    rows = [(row["city"], int(row["amount"])) for row in csv.DictReader(file)]
with open("report.txt", "w") as file:
    file.writelines(f"{city}: {amount}\\n" for city, amount in sorted(rows))
sum(amount for _, amount in rows)
"""


async def main() -> None:
    """Ask what protects, run code with a file in and a file out, meet a limit, keep state in a session."""
    async with Client(stdio_client(EXECUTOR)) as client:

        async def call(tool: str, **arguments: Any) -> dict[str, Any]:
            result = await client.call_tool(tool, arguments)
            if result.structured_content is None:  # a refusal is a sentence
                raise SystemExit("\n".join(getattr(block, "text", "") for block in result.content))
            found: dict[str, Any] = result.structured_content
            return found

        status = await call("sandbox_status")
        print(f"isolation: {status['isolation']['tier']}")

        given = [{"path": "sales.csv", "text": "city,amount\nOslo,4\nBonn,3\n"}]
        done = await call("python_execute", code=ANALYSIS, files=given)
        print(f"value: {done['value']}, in {done['usage']['wall'] * 1000:.1f} ms")
        for file in done["files"]:
            read = await client.read_resource(file["uri"])
            print(f"{file['path']}: {getattr(read.contents[0], 'text', '')!r}")

        done = await call("python_execute", code="while True: pass", limits={"wall": 0.5})
        print(f"an endless loop: {done['status']}, limit {done['limit']}")

        session = (await call("session_start"))["session"]
        await call("python_execute", session=session, code="import random; dice = random.Random(7)")
        done = await call("python_execute", session=session, code="[dice.randint(1, 6) for _ in range(5)]")
        print(f"from a session: {done['value']}")
        await call("session_end", session=session)


if __name__ == "__main__":
    asyncio.run(main())
