"""Functions of the local Lambda: in this process, or in sandboxes of their own under AWS's runtime client."""

from __future__ import annotations

import json
import logging
import os
import queue
import re
import subprocess
import sys
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

logger = logging.getLogger(__name__)

ACCOUNT, REGION = "123456789012", "us-east-1"


@frozen
class Answer:
    """What an invocation gave; *error* is how Lambda calls its failure."""

    body: bytes
    error: str | None = None


class Function(ABC):
    """Something that can be invoked.

    Attributes:
        durable: Whether an invocation from outside begins a durable execution.
        timeout: Seconds after which an invocation is ended.
    """

    durable: bool
    timeout: float

    @abstractmethod
    def invoke(self, payload: bytes, name: str, url: str) -> Answer:
        """Execute one invocation; *url* is the endpoint that its own calls of AWS go to."""

    @abstractmethod
    def close(self) -> None:
        """End what is left of invocations."""


@frozen
class _Context:
    """The part of Lambda's context that handlers read."""

    function_name: str
    ends: float
    aws_request_id: str = field(factory=lambda: str(uuid.uuid4()))
    function_version: str = "$LATEST"
    tenant_id: str | None = None

    @property
    def invoked_function_arn(self) -> str:
        return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{self.function_name}"

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self.ends - time.monotonic()) * 1000))


@define(eq=False)
class InProcess(Function):
    """A handler that is called in this process, on the thread of the request."""

    handler: Callable[[Any, Any], Any]
    durable: bool = True
    timeout: float = 900.0
    invocations: int = field(default=0, init=False)

    def invoke(self, payload: bytes, name: str, url: str) -> Answer:  # noqa: ARG002 -- its client knows where to call
        """Call the handler."""
        self.invocations += 1
        try:
            result = self.handler(json.loads(payload), _Context(name, time.monotonic() + self.timeout))
            return Answer(json.dumps(result).encode())
        except BaseException as error:
            logger.warning("an invocation of %s failed", name, exc_info=True)
            failure = {"errorType": type(error).__name__, "errorMessage": str(error)}
            return Answer(json.dumps(failure).encode(), "Unhandled")

    def close(self) -> None:
        """Leave running invocations to their threads, which end with the process."""


_LONGEST_INIT = 60.0
"""Seconds that a process may take until its handler is ready."""


# -- sandboxes --------------------------------------------------------------------------


@define(eq=False)
class _Invocation:
    payload: bytes
    timeout: float
    ends: float = field(init=False)  # as time.time() counts
    id: str = field(factory=lambda: str(uuid.uuid4()))
    done: threading.Event = field(factory=threading.Event)
    answer: Answer | None = None

    def __attrs_post_init__(self) -> None:
        self.ends = time.time() + _LONGEST_INIT

    def begin(self) -> None:
        """Note that the handler received it: its time counts from now, and not from the start of its process."""
        self.ends = time.time() + self.timeout


class _RuntimeApi(ThreadingHTTPServer):
    """Lambda's runtime API, version 2018-06-01, for one sandbox."""

    daemon_threads = True

    def __init__(self, arn: str) -> None:
        super().__init__(("127.0.0.1", 0), _RuntimeApiHandler)
        self.arn = arn
        self.waiting: queue.SimpleQueue[_Invocation | None] = queue.SimpleQueue()
        self.current: _Invocation | None = None
        self.init_error: bytes | None = None
        threading.Thread(target=self.serve_forever, args=(0.05,), name="pyworkflow-runtime-api", daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing: the sandbox was killed."""


class _RuntimeApiHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _RuntimeApi

    def do_GET(self) -> None:
        invocation = self.server.waiting.get()
        self.server.current = invocation
        if invocation is None:
            self.close_connection = True
            return
        invocation.begin()
        headers = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": invocation.id,
            "Lambda-Runtime-Deadline-Ms": str(int(invocation.ends * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": self.server.arn,
            "Lambda-Runtime-Trace-Id": "Root=1-0-0;Sampled=0",
        }
        self._send(200, invocation.payload, headers)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.endswith("/init/error"):
            self.server.init_error = body
        elif (found := re.search(r"/invocation/([^/]+)/(response|error)$", self.path)) is not None:
            invocation, self.server.current = self.server.current, None
            if invocation is not None and invocation.id == found[1]:
                invocation.answer = Answer(body, "Unhandled" if found[2] == "error" else None)
                self._send(202, b'{"status":"OK"}')
                invocation.done.set()
                return
        self._send(202, b'{"status":"OK"}')

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class _Sandbox:
    """One process with the handler, and the runtime API that serves it."""

    def __init__(self, function: Sandboxed, name: str, url: str) -> None:
        self.api = _RuntimeApi(f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}")
        root = str(function.root)
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self.api.server_port}",
            "_HANDLER": function.handler,
            "LAMBDA_TASK_ROOT": root,
            "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
            "PYTHONUNBUFFERED": "1",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_LAMBDA_FUNCTION_NAME": name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
            "AWS_ENDPOINT_URL_LAMBDA": url,
            "PYWORKFLOW_AWS_FUNCTION": name,
            **function.environment,
        }
        with function.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 -- the interpreter, and a handler that the caller names
                [function.python, "-m", "awslambdaric", function.handler],
                env=environment,
                cwd=root,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def invoke(self, invocation: _Invocation) -> Answer:
        self.api.waiting.put(invocation)
        while not invocation.done.wait(0.02):
            if self.process.poll() is not None:
                return self._exited(invocation)
            if time.time() > invocation.ends:
                self.kill()
                message = f"RequestId: {invocation.id} Error: Task timed out after {invocation.timeout:.2f} seconds"
                return _failed("Sandbox.Timedout", message)
        assert invocation.answer is not None  # noqa: S101 -- set before it is done
        return invocation.answer

    def _exited(self, invocation: _Invocation) -> Answer:
        if self.api.init_error is not None:
            return Answer(self.api.init_error, "Unhandled")
        code = self.process.returncode
        return _failed(
            "Runtime.ExitError", f"RequestId: {invocation.id} Error: Runtime exited with error: exit status {code}"
        )

    @property
    def lives(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """End the process, if it lives, and its API."""
        self.process.kill()
        self.process.wait()
        self.api.waiting.put(None)
        self.api.shutdown()
        self.api.server_close()


def _failed(kind: str, message: str) -> Answer:
    return Answer(json.dumps({"errorType": kind, "errorMessage": message}).encode(), "Unhandled")


@define(eq=False)
class Sandboxed(Function):
    """A handler that runs as in Lambda: in processes under ``awslambdaric``, one for each invocation in progress.

    A process is kept for the invocations that follow, and is replaced when it dies or an invocation takes too long.

    Args:
        handler: As Lambda takes it, ``module.function``.
        root: The folder of the code.
        environment: More variables.
        log: The file to which it writes what Lambda would send to CloudWatch.
        python: The interpreter.

    Attributes:
        cold_starts: How many processes were begun.
        invocations: How many invocations there were.
    """

    handler: str = "pyworkflow_aws.handler.durable"
    root: Path = field(factory=Path.cwd)
    environment: Mapping[str, str] = field(factory=dict)
    durable: bool = True
    timeout: float = 900.0
    log: Path = field(factory=lambda: Path(os.devnull))
    python: str = sys.executable
    cold_starts: int = field(default=0, init=False)
    invocations: int = field(default=0, init=False)
    _idle: list[_Sandbox] = field(factory=list, init=False)
    _busy: set[_Sandbox] = field(factory=set, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)
    _closed: bool = field(default=False, init=False)

    def invoke(self, payload: bytes, name: str, url: str) -> Answer:
        """Execute one invocation in a process that is free, or in a new one."""
        sandbox = self._acquire(name, url)
        try:
            return sandbox.invoke(_Invocation(payload, self.timeout))
        finally:
            self._release(sandbox)

    def kill(self) -> int:
        """Kill every process that runs an invocation; return how many there were."""
        with self._lock:
            busy = list(self._busy)
        for sandbox in busy:
            sandbox.process.kill()
        return len(busy)

    def forget(self) -> None:
        """End the processes that wait, so that the next invocation is a cold start."""
        with self._lock:
            idle, self._idle = self._idle, []
        for sandbox in idle:
            sandbox.kill()

    def close(self) -> None:
        """End all processes."""
        self._closed = True
        self.kill()
        self.forget()

    def _acquire(self, name: str, url: str) -> _Sandbox:
        with self._lock:
            self.invocations += 1
            while self._idle:
                sandbox = self._idle.pop()
                if sandbox.lives:
                    self._busy.add(sandbox)
                    return sandbox
                sandbox.kill()
            self.cold_starts += 1
        sandbox = _Sandbox(self, name, url)
        with self._lock:
            self._busy.add(sandbox)
        return sandbox

    def _release(self, sandbox: _Sandbox) -> None:
        with self._lock:
            self._busy.discard(sandbox)
            if sandbox.lives and not self._closed:
                self._idle.append(sandbox)
                return
        sandbox.kill()
