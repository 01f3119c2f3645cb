"""The faulty server with tools that try what a confined server may do. Standard library only."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Callable
from typing import Any

from faulty_server import FaultyServer, Params, main


class ProbingServer(FaultyServer):
    def tool_write(self, arguments: Params, _id: Any, _meta: Params) -> Any:
        def write() -> None:
            with open(arguments["path"], "w") as file:
                file.write("written")

        return tried(write)

    def tool_read(self, arguments: Params, _id: Any, _meta: Params) -> Any:
        return tried(lambda: open(arguments["path"]).close())

    def tool_connect(self, arguments: Params, _id: Any, _meta: Params) -> Any:
        return tried(lambda: socket.create_connection(("127.0.0.1", arguments["port"]), 2).close())


def tried(attempt: Callable[[], Any]) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "done"


if __name__ == "__main__":
    main(sys.argv[1:], ProbingServer)
