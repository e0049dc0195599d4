"""boto3 clients, made on first use, and calls of them from async code."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from typing import Any, TypeVar

from attrs import define, field

from pyworkflow_aws.settings import AwsSettings

T = TypeVar("T")

CONNECTIONS = 64
"""How many calls are made at once."""

LONGEST = 900
"""The most seconds a function may take."""


_one_at_a_time = threading.Lock()  # a session makes clients in one thread only


@cache
def _session(profile: str | None, region: str | None) -> Any:
    """Return a session; what it has read of AWS's service models serves all its clients."""
    import boto3

    return boto3.Session(profile_name=profile, region_name=region)


@define(eq=False)
class Clients:
    """The clients of one application. One that invokes functions never does it twice: boto3's own retries are off."""

    settings: AwsSettings
    _made: dict[str, Any] = field(factory=dict, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)
    _loop: asyncio.AbstractEventLoop | None = field(default=None, init=False)
    _free: asyncio.Semaphore = field(factory=lambda: asyncio.Semaphore(CONNECTIONS), init=False)

    def invoking(self) -> Any:
        """Return a Lambda client that waits for a function to its end and calls it once."""
        return self._client("lambda", "invoke", read_timeout=LONGEST + 30, retries={"total_max_attempts": 1})

    def functions(self) -> Any:
        """Return a Lambda client for calls that may be repeated: starting by name, reading, answering callbacks."""
        return self._client("lambda", "ask", retries={"total_max_attempts": 6, "mode": "standard"})

    def objects(self) -> Any:
        """Return an S3 client."""
        return self._client("s3", "ask", retries={"total_max_attempts": 6, "mode": "standard"})

    def _client(self, service: str, use: str, **options: Any) -> Any:
        with self._lock:
            key = f"{service} {use}"
            if key not in self._made:
                from botocore.config import Config

                settings = self.settings
                config = Config(max_pool_connections=CONNECTIONS, tcp_keepalive=True, connect_timeout=10, **options)
                session = _session(settings.profile, settings.region)
                with _one_at_a_time:
                    self._made[key] = session.client(service, endpoint_url=settings.endpoint_url, config=config)
            return self._made[key]

    async def call(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call a function that blocks, on a thread that does not keep the process from ending."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._free = loop, asyncio.Semaphore(CONNECTIONS)
        done: asyncio.Future[T] = loop.create_future()
        work = partial(function, *args, **kwargs)
        async with self._free:
            threading.Thread(target=_call, args=(loop, done, work), name="pyworkflow-aws", daemon=True).start()
            return await done

    def close(self) -> None:
        """Close connections."""
        with self._lock:
            made, self._made = self._made, {}
        for client in made.values():
            client.close()


def _call(loop: asyncio.AbstractEventLoop, done: asyncio.Future[T], work: Callable[[], T]) -> None:
    try:
        settle = partial(done.set_result, work())
    except BaseException as error:  # noqa: BLE001 -- raised where the call is awaited
        settle = partial(done.set_exception, error)
    with suppress(RuntimeError):  # the loop is closed: nothing awaits the result any more
        loop.call_soon_threadsafe(lambda: None if done.done() else settle())
