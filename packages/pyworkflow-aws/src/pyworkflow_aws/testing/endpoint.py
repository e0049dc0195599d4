"""One address that boto3 takes for AWS Lambda: invocations are served here, the rest by AWS's own local runner."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import threading
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from aws_durable_execution_sdk_python_testing.runner import WebRunner, WebRunnerConfig
from aws_durable_execution_sdk_python_testing.web.server import WebServiceConfig

from pyworkflow_aws.testing.functions import ACCOUNT, REGION, Function

_INVOKE = re.compile(r"/2015-03-31/functions/([^/]+)/invocations")
_EXECUTION = re.compile(r"/2025-12-01/durable-executions/([^/]+)(/stop)?")
_FROM_THE_RUNNER = "X-Dex-Handler-Invoke"


class Endpoint:
    """A local Lambda on a free port of the loopback interface.

    Args:
        functions: What can be invoked, by name; more may be added later.
        port: The port; 0: any that is free.
        skip_time: Waits and pauses between attempts end at once, as far as the service ends them.
        execution_timeout: Seconds after which an execution is ended.

    Attributes:
        url: For ``endpoint_url``, and ``configure(aws_endpoint_url=…)``.
        runner: Where AWS's local runner is.
        stopped: Why executions were stopped, by their ARNs as paths have them.
    """

    def __init__(
        self,
        functions: Mapping[str, Function] | None = None,
        *,
        port: int = 0,
        skip_time: bool = False,
        execution_timeout: int = 365 * 24 * 3600,
    ) -> None:
        self.functions = dict(functions or {})
        self._port = port
        self._skip_time = skip_time
        self._execution_timeout = execution_timeout
        self._started: dict[tuple[str, str], tuple[str, str]] = {}  # by function and name: digest of payload, ARN
        self._lock = threading.Lock()
        self.stopped: dict[str, Any] = {}
        self.url = ""
        self.runner = ""

    def __enter__(self) -> Self:
        """Begin to serve."""
        self._server = _Server(self, self._port)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        logging.getLogger("aws_durable_execution_sdk_python_testing").setLevel(logging.CRITICAL)
        self._runner = _Runner(
            WebRunnerConfig(
                web_service=WebServiceConfig(host="127.0.0.1", port=0, log_level=logging.CRITICAL),
                lambda_endpoint=self.url,
                local_runner_region=REGION,
                skip_time=self._skip_time,
            )
        )
        with _some_credentials():
            self._runner.start()
        self.runner = f"http://127.0.0.1:{self._runner.port}"
        self._threads = [
            threading.Thread(target=self._server.serve_forever, args=(0.05,), name="pyworkflow-endpoint", daemon=True),
            threading.Thread(target=self._runner.serve_forever, name="pyworkflow-durable-runner", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End all processes, and stop serving."""
        for function in self.functions.values():
            function.close()
        self._runner.end()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join(timeout=10)

    def invoke(self, name: str, payload: bytes) -> Any:
        """Execute one invocation of a function."""
        return self.functions[name].invoke(payload, name, self.url)

    def begin(self, name: str, qualifier: str, execution: str, payload: bytes) -> str | None:
        """Begin a durable execution, or find the one that began by the same call; None: its name is taken."""
        digest = hashlib.sha256(payload).hexdigest()
        with self._lock:
            known = self._started.get((name, execution))
            if known is not None:
                return known[1] if known[0] == digest else None
            request = {
                "AccountId": ACCOUNT,
                "FunctionName": name,
                "FunctionQualifier": qualifier,
                "ExecutionName": execution,
                "ExecutionTimeoutSeconds": self._execution_timeout,
                "ExecutionRetentionPeriodDays": 14,
                "InvocationId": str(uuid.uuid4()),
                "Input": payload.decode(),
            }
            arn: str = self._ask("/start-durable-execution", request)["ExecutionArn"]
            self._started[name, execution] = digest, arn
            return arn

    def _ask(self, path: str, data: Mapping[str, Any]) -> Any:
        request = urllib.request.Request(  # noqa: S310 -- our own address
            self.runner + path, json.dumps(data).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:  # noqa: S310 -- the same
            return json.load(answer)


@contextmanager
def _some_credentials() -> Iterator[None]:
    """Set credentials in the environment: the runner signs its calls of us, though nothing checks that."""
    missing = [name for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY") if name not in os.environ]
    os.environ.update(dict.fromkeys(missing, "local"))
    try:
        yield
    finally:
        for name in missing:
            del os.environ[name]


class _Runner(WebRunner):
    """AWS's local runner, with its port, and with a fix that resumes each execution whose timer fires."""

    def start(self) -> None:
        """Start it."""
        super().start()
        executor = self._executor
        assert executor is not None  # noqa: S101 -- it has been started
        fire = executor._fire_due_operations  # noqa: SLF001 -- there is no other way

        def fire_and_invoke(execution_arn: str) -> bool:
            # As it is, what sets the next timer cancels the one that fires, even if it has answered the operation and
            # is about to invoke, which then never happens.
            if fire(execution_arn):
                executor._invoke_execution(execution_arn)  # noqa: SLF001 -- the same
            return False

        executor._fire_due_operations = fire_and_invoke  # type: ignore[method-assign]  # noqa: SLF001 -- the same

    @property
    def port(self) -> int:
        """The port that it serves on."""
        server = self._server
        assert server is not None  # noqa: S101 -- it has been started
        return int(server.server_port)

    def end(self) -> None:
        """Stop, and close what stopping leaves open: requests are served on, and the loop of timers is kept."""
        server, scheduler = self._server, self._scheduler
        assert server is not None  # noqa: S101 -- it has been started
        assert scheduler is not None  # noqa: S101 -- the same
        server.shutdown()
        self.stop()
        scheduler._loop.close()  # noqa: SLF001 -- there is no other way


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, endpoint: Endpoint, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.endpoint = endpoint

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing: a client disconnected."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urllib.parse.urlparse(self.path)
        if (found := _INVOKE.fullmatch(path.path)) is not None:
            qualifier = urllib.parse.parse_qs(path.query).get("Qualifier", [None])[0]
            self._invoke(urllib.parse.unquote(found[1]), qualifier, body)
        else:
            self._pass_on(body)

    do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815 -- the server's protocol

    def _invoke(self, function_name: str, qualifier: str | None, body: bytes) -> None:
        endpoint = self.server.endpoint
        name, _, in_name = function_name.rpartition(":function:")[2].partition(":")
        qualifier = qualifier or in_name or None
        function = endpoint.functions.get(name)
        if function is None:
            self._refuse(404, "ResourceNotFoundException", f"Function not found: {function_name}")
            return
        as_event = self.headers.get("X-Amz-Invocation-Type") == "Event"
        if function.durable and _FROM_THE_RUNNER not in self.headers:
            self._begin(name, qualifier, body, as_event=as_event)
        elif as_event:
            threading.Thread(target=endpoint.invoke, args=(name, body), daemon=True).start()
            self._send(202, b"")
        else:
            answer = endpoint.invoke(name, body)
            error = {"X-Amz-Function-Error": answer.error} if answer.error else {}
            headers = {"X-Amz-Executed-Version": "$LATEST", "x-amzn-RequestId": str(uuid.uuid4()), **error}
            self._send(200, answer.body, headers)

    def _begin(self, name: str, qualifier: str | None, body: bytes, *, as_event: bool) -> None:
        if qualifier is None:
            text = "You cannot invoke a durable function using an unqualified ARN."
            self._refuse(400, "InvalidParameterValueException", text)
            return
        if not as_event:
            self._refuse(400, "InvalidParameterValueException", "pyworkflow starts durable functions by events only.")
            return
        execution = self.headers.get("X-Amz-Durable-Execution-Name") or str(uuid.uuid4())
        arn = self.server.endpoint.begin(name, qualifier, execution, body)
        if arn is None:
            text = f"The durable execution {execution} has already been started with another payload."
            self._refuse(409, "DurableExecutionAlreadyStartedException", text)
            return
        self._send(202, b"", {"X-Amz-Durable-Execution-Arn": arn, "X-Amz-Executed-Version": "$LATEST"})

    def _pass_on(self, body: bytes) -> None:
        kind = self.headers.get("Content-Type") or "application/json"
        request = urllib.request.Request(  # noqa: S310 -- our own address
            self.server.endpoint.runner + self.path, body or None, {"Content-Type": kind}, method=self.command
        )
        try:
            with urllib.request.urlopen(request) as answer:  # noqa: S310 -- the same
                answer_body = self._completed(body, answer.read())
                self._send(answer.status, answer_body, {"Content-Type": "application/json"})
        except urllib.error.HTTPError as error:
            kept = {k: v for k, v in error.headers.items() if k.lower().startswith(("x-amzn", "content-type"))}
            self._send(error.code, error.read(), kept)

    def _completed(self, asked: bytes, answer_body: bytes) -> bytes:
        """Return an answer of the runner with what it leaves out: the reason for which an execution was stopped."""
        found = _EXECUTION.fullmatch(urllib.parse.urlparse(self.path).path)
        if found is None:
            return answer_body
        stopped = self.server.endpoint.stopped
        if found[2]:
            stopped[found[1]] = json.loads(asked or b"{}")
        elif found[1] in stopped:
            return json.dumps(json.loads(answer_body) | {"Error": stopped[found[1]]}).encode()
        return answer_body

    def _refuse(self, status: int, kind: str, message: str) -> None:
        answer_body = {"Type": "User", "Message": message, "message": message}
        self._send(
            status, json.dumps(answer_body).encode(), {"x-amzn-ErrorType": kind, "Content-Type": "application/json"}
        )

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass
