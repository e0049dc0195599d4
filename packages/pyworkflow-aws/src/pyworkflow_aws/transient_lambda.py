"""The runtime ``lambda``: a whole workflow in one invocation of a function."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from attrs import define, field
from botocore.exceptions import ClientError, ReadTimeoutError

from pyworkflow.clock import sleep_until
from pyworkflow.codec.exceptions import rebuild, record_of
from pyworkflow.engine.transient import TransientRun
from pyworkflow.errors import (
    ConfigError,
    PayloadTooLarge,
    RunBlocked,
    RunExists,
    RunNotFound,
    Unsupported,
    WorkflowError,
)
from pyworkflow.events import Plain
from pyworkflow.ids import new_run_id
from pyworkflow.ports import Runtime, StartRequest
from pyworkflow_aws.clients import Clients
from pyworkflow_aws.error_records import error_data, read_error
from pyworkflow_aws.settings import AwsSettings
from pyworkflow_aws.step_loop import Work, step_threads

if TYPE_CHECKING:
    from datetime import timedelta

    from pyworkflow.app import App

logger = logging.getLogger(__name__)

Invocation = Literal["request-response", "event"]

_MAX_INPUT = {"request-response": 6 * 1024 * 1024, "event": 1024 * 1024}
_MAX_RESULT = 6 * 1024 * 1024 - 1024
_MARGIN = 1.0
"""Seconds before the function's time is up at which a workflow is stopped, so that its caller learns why."""


class OutOfTime(WorkflowError, TimeoutError):
    """The function's time is up, or does not suffice for a sleep; the run is lost."""


# -- for callers ----------------------------------------------------------------------


class LambdaRuntime(Runtime):
    """Executes transient runs in a function of AWS Lambda, once each.

    Args:
        app: The application.
        function: Another function than that of the settings.
        qualifier: Another alias or version of it.
        invocation: ``"request-response"``: `start` waits for the result in the background, for as long as this process
            lives; ``"event"``: it returns once AWS has accepted the run, and no result is kept.
    """

    def __init__(
        self,
        app: App,
        *,
        function: str | None = None,
        qualifier: str | None = None,
        invocation: Invocation = "request-response",
    ) -> None:
        self.app = app
        self.settings = app.settings.of(AwsSettings)
        self.clients = Clients(self.settings)
        self.qualifier = qualifier or self.settings.qualifier
        self.invocation = invocation
        self._function = function
        self._tasks: dict[str, asyncio.Task[Plain]] = {}
        self._events: set[str] = set()

    async def start(self, request: StartRequest) -> str:
        """Invoke the function; with ``"event"``, return once AWS has accepted it."""
        run_id = request.run_id or request.idempotency_key or new_run_id()
        if run_id in self._tasks or run_id in self._events:
            if request.idempotency_key is None:
                raise RunExists(f"there is a run {run_id!r} already")
            return run_id
        payload = self._payload(request, run_id)
        if self.invocation == "event":
            self._events.add(run_id)
            await self._invoke(payload)
        else:
            self._tasks[run_id] = asyncio.create_task(self._result(payload))
        return run_id

    async def call(self, request: StartRequest) -> Plain:
        """Invoke the function and wait for its result, whatever `start` does."""
        payload = self._payload(request, request.run_id or new_run_id(), "request-response")
        return await self._result(payload)

    async def result(self, run_id: str) -> Plain:
        """Wait for the result of a run that was started here.

        Raises:
            Unsupported: It was started by an event.
            RunNotFound: It was not started by this process.
        """
        if run_id in self._events:
            msg = (
                f"run {run_id!r} was started by an event, and AWS keeps no result of it: await the workflow, use "
                "lambda?invocation=request-response, or durable-lambda"
            )
            raise Unsupported(msg)
        if run_id not in self._tasks:
            msg = f"this process has not started a run {run_id!r}, and AWS keeps nothing of transient runs"
            raise RunNotFound(msg)
        return await asyncio.shield(self._tasks[run_id])

    async def cancel(self, run_id: str, reason: str = "", grace: timedelta | None = None) -> None:  # noqa: ARG002 -- the port's
        """Refuse: an invocation cannot be stopped."""
        msg = f"run {run_id!r} is an invocation of a function, and AWS cannot stop one; use durable-lambda"
        raise Unsupported(msg)

    async def close(self, grace: float = 0.0) -> None:  # noqa: ARG002 -- the port's
        """Stop waiting; invocations run on."""
        tasks, self._tasks = self._tasks, {}
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        self.clients.close()

    def _payload(self, request: StartRequest, run_id: str, invocation: Invocation | None = None) -> bytes:
        invocation = invocation or self.invocation
        workflow = request.workflow.name
        data = {"workflow": workflow, "args": request.args, "kwargs": request.kwargs, "run_id": run_id}
        if invocation == "event":
            data["event"] = True
        text = json.dumps(data, sort_keys=True, separators=(",", ":"))
        if len(text) > _MAX_INPUT[invocation]:
            msg = (
                f"the arguments of workflow {workflow!r} are {len(text):,} bytes as JSON, and AWS takes "
                f"{_MAX_INPUT[invocation]:,}: put large data into S3, and pass its place"
            )
            raise PayloadTooLarge(msg)
        return text.encode()

    async def _result(self, payload: bytes) -> Plain:
        answer = await self._invoke(payload, "RequestResponse")
        data = json.loads(answer["body"] or b"null")
        if answer.get("FunctionError"):
            kind, message = data.get("errorType", "Error"), data.get("errorMessage", "")
            msg = f"the function could not run the workflow: {kind}: {message}"
            raise RunBlocked(msg)
        if "error" in data:
            raise rebuild(read_error(data["error"])[0])
        return data["value"]

    async def _invoke(self, payload: bytes, kind: str = "Event") -> dict[str, Any]:
        function = self._function or self.settings.named_function()
        return await self.clients.call(_invoke, self.clients.invoking(), function, self.qualifier, kind, payload)


def _invoke(client: Any, function: str, qualifier: str, kind: str, payload: bytes) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = client.invoke(
            FunctionName=function, Qualifier=qualifier, InvocationType=kind, Payload=payload
        )
        answer["body"] = answer["Payload"].read()
    except ReadTimeoutError as error:
        msg = f"function {function!r} gave no answer within the longest time a function may take"
        raise RunBlocked(msg) from error
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            msg = f"there is no function {function!r} with alias or version {qualifier!r}; deploy it"
            raise ConfigError(msg) from None
        raise
    return answer


# -- in the function --------------------------------------------------------------------


@define(eq=False)
class Limited(TransientRun):
    """A transient run whose time is limited."""

    seconds_left: Callable[[], float] = field(kw_only=True)

    async def call_child(self, workflow: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run *workflow* in this invocation too, unless it names a runtime."""
        if workflow.runtime is not None:
            return await super().call_child(workflow, args, kwargs)
        child = Limited(new_run_id(), self.app, self.threads, self.hooks, seconds_left=self.seconds_left)
        signature = workflow.signature_for(self.codec)
        return signature.decode_result(await child.run(workflow, *signature.encode_call(args, kwargs)))

    async def sleep(self, delay: float | None, until: datetime | None) -> None:
        """Sleep, if there is time for it.

        Raises:
            OutOfTime: There is not.
        """
        wanted = delay if until is None else (until - self.now()).total_seconds()
        left = self.seconds_left() - _MARGIN
        if wanted is not None and wanted > left:
            msg = (
                f"the workflow wants to sleep for {wanted:.0f} s, and the function has {max(0.0, left):.0f} s left; "
                "'durable-lambda' sleeps for up to a year, and is not charged for it"
            )
            raise OutOfTime(msg)
        await (asyncio.sleep(max(0.0, delay or 0.0)) if until is None else sleep_until(until))


def run_in_function(app: App, event: Any, context: Any) -> Any:
    """Run the workflow that *event* names; return its result, or its error as a record."""
    ends: float = time.monotonic() + context.get_remaining_time_in_millis() / 1000

    def seconds_left() -> float:
        return ends - time.monotonic()

    try:
        return {"value": _run(app, event, seconds_left)}
    except Exception as error:
        if isinstance(event, dict) and event.get("event"):
            raise  # for the function's destination on failure, if it has one: no caller waits for a record
        logger.warning("the workflow failed", exc_info=True)
        return {"error": error_data(record_of(error), datetime.now().astimezone())}


def _run(app: App, event: Any, seconds_left: Callable[[], float]) -> Plain:
    if not isinstance(event, dict) or event.get("workflow") not in app.registry.workflows:
        known = ", ".join(map(repr, sorted(app.registry.workflows))) or "none"
        msg = f'the payload has to name a workflow, {{"workflow": …, "args": […], "kwargs": {{…}}}}; there are: {known}'
        raise RunBlocked(msg)
    workflow = app.registry.workflows[event["workflow"]]
    run = Limited(event.get("run_id") or new_run_id(), app, step_threads, seconds_left=seconds_left)

    async def execute() -> Plain:
        scope = asyncio.timeout(max(0.0, seconds_left() - _MARGIN))
        try:
            async with scope:
                return await run.run(workflow, event.get("args", []), event.get("kwargs", {}))
        except TimeoutError as error:
            if not scope.expired():
                raise
            msg = "the function's time is up; give it more, up to 15 minutes, or use 'durable-lambda'"
            raise OutOfTime(msg) from error

    value: Plain = Work().run(execute)
    size = len(json.dumps(value))
    if size > _MAX_RESULT:
        msg = f"the result of workflow {workflow.name!r} is {size:,} bytes as JSON, and AWS returns {_MAX_RESULT:,}"
        raise PayloadTooLarge(msg)
    return value
