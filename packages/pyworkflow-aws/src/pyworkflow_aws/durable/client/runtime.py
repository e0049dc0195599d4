"""The runtime as those see it who start and watch runs: boto3's Lambda API, and nothing besides."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn, cast

from attrs import evolve
from botocore.exceptions import ClientError

from pyworkflow.authoring.context import token_digest
from pyworkflow.codec.exceptions import rebuild
from pyworkflow.codec.json_text import dumps_plain
from pyworkflow.engine.hook_payloads import NO_HOOK
from pyworkflow.errors import (
    HookClosed,
    PayloadTooLarge,
    RunBlocked,
    RunCancelled,
    RunEnded,
    RunExists,
    RunNotFound,
    RunTerminated,
    Unsupported,
)
from pyworkflow.events import Event, Plain
from pyworkflow.ids import new_run_id
from pyworkflow.model import Hook, Page, Run, RunQuery, Status
from pyworkflow.ports import DurableRuntime, StartRequest
from pyworkflow_aws.clients import Clients
from pyworkflow_aws.durable.client.history import Past, past_of
from pyworkflow_aws.durable.client.listing import Execution, executions, find, waiting
from pyworkflow_aws.durable.replay import starting
from pyworkflow_aws.durable.replay.payloads import LIMIT, Payloads, milliseconds
from pyworkflow_aws.durable.replay.starting import Start, execution_name
from pyworkflow_aws.settings import AwsSettings

if TYPE_CHECKING:
    from pyworkflow.app import App

_FIRST_PAUSE, _LAST_PAUSE = 0.05, 2.0
"""Seconds between two polls of a run whose result is awaited: at first, and in the long run."""

_RETENTION = "AWS itself deletes a run's history, RetentionPeriodInDays after its end; it cannot be purged before"


class DurableLambda(DurableRuntime):
    """Runs in a durable function of AWS Lambda; a run's execution is its history, and is named by its id.

    Args:
        app: The application.
        function: Another function than that of the settings.
        qualifier: Another alias or version of it.
    """

    def __init__(self, app: App, *, function: str | None = None, qualifier: str | None = None) -> None:
        self.app = app
        self.settings = app.settings.of(AwsSettings)
        self.clients = Clients(self.settings)
        self.qualifier = qualifier or self.settings.qualifier
        self._function = function
        self._arns: dict[str, str] = {}

    @property
    def function(self) -> str:
        """The function that runs workflows."""
        return self._function or self.settings.named_function()

    @property
    def place(self) -> str:
        """Where runs are kept, for people."""
        return f"AWS's history of function {self.function!r}"

    # -- starting and waiting -------------------------------------------------------------

    async def start(self, request: StartRequest) -> str:
        """Start an execution; the same key gives the same one."""
        key = request.idempotency_key
        run_id = request.run_id or key or new_run_id()
        start = Start(request.workflow.name, request.args, request.kwargs, run_id, key)
        try:
            arn = await self._call(starting.invoke, self.function, self.qualifier, start)
        except RunExists:
            run = await self.run(run_id)
            if run.workflow != start.workflow:
                what = f"the run id {run_id!r}" if key is None else f"the idempotency key {key!r}"
                msg = f"{what} belongs to a run of workflow {run.workflow!r} already, not of {start.workflow!r}"
                raise RunExists(msg) from None
            if key is None:
                msg = (
                    f"there is a run {run_id!r} already ({run.status.value}); to get the existing run instead of an "
                    "error, start with an idempotency_key"
                )
                raise RunExists(msg) from None
        else:
            self._arns[run_id] = arn
        return run_id

    async def call(self, request: StartRequest) -> Plain:
        """Start a run and wait for its end."""
        return await self.result(await self.start(request))

    async def result(self, run_id: str) -> Plain:
        """Wait for the end of the run, and of those that continue it."""
        pause = _FIRST_PAUSE
        while True:
            execution = await self._execution(run_id)
            if execution.status is Status.CONTINUED:
                run_id = execution.continued or ""
            elif execution.status is Status.RUNNING:
                await asyncio.sleep(pause)
                pause = min(1.5 * pause, _LAST_PAUSE)
            else:
                return await self.clients.call(_outcome, execution, self._payloads(run_id))

    # -- reading ---------------------------------------------------------------------------

    async def run(self, run_id: str) -> Run:
        """Return a run."""
        return (await self.history(run_id))[0]

    async def history(self, run_id: str) -> tuple[Run, list[Event]]:
        """Return a run and its events; of a workflow that is not known in this process, without arguments of steps."""
        execution = await self._execution(run_id)
        past = await self._past(execution)
        run = execution.as_run(run_id)
        return evolve(run, length=len(past.events), attributes={**run.attributes, **past.attributes}), list(past.events)

    async def runs(self, query: RunQuery) -> Page:
        """Return runs, the newest first, without their lengths.

        Attributes are known once a run has completed; before that, its history is read if the query needs them.
        """
        found, cursor = await self._call(executions, self.function, self.qualifier, query)
        details = await asyncio.gather(*(self._details(arn) for arn in found))
        runs = [execution.as_run(execution.run_id) for execution in details]
        if query.attributes:
            known = [run.status in {Status.COMPLETED, Status.CONTINUED} for run in runs]
            runs = [run if ended else await self.run(run.id) for run, ended in zip(runs, known, strict=True)]
            runs = [run for run in runs if all(run.attributes.get(k) == v for k, v in query.attributes.items())]
        if query.workflow is not None:
            runs = [run for run in runs if run.workflow == query.workflow]
        if query.status is not None:
            runs = [run for run in runs if run.status is query.status]
        return Page(runs, cursor)

    async def purge(self, before: datetime, statuses: Collection[Status]) -> NoReturn:  # noqa: ARG002 -- the port's
        """Refuse: AWS does it by itself."""
        raise Unsupported(_RETENTION)

    # -- controlling ---------------------------------------------------------------------------

    async def cancel(self, run_id: str, reason: str = "", grace: timedelta | None = None) -> None:
        """Request that a run stops.

        The run receives it as soon as it listens: while it waits for something, or once a step has taken a second.
        """
        pause = _FIRST_PAUSE
        now = datetime.now(UTC)
        message = {"reason": reason, "deadline": None if grace is None else milliseconds(now + grace)}
        payload = dumps_plain(cast("Plain", {"at": milliseconds(now), "value": message}))
        if not self.settings.cancellable:
            msg = "runs do not listen for being cancelled (aws_cancellable=False); terminate ends them without clean-up"
            raise Unsupported(msg)
        while True:
            execution = await self._newest(await self._execution(run_id))
            if execution.status.is_final or execution.status is Status.BLOCKED:
                msg = f"run {run_id!r} has ended already: it is {execution.status.value}"
                raise RunEnded(msg)
            callback = (await self._past(execution)).mailbox
            if callback is not None and await self._answer(callback, payload):
                return
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, _LAST_PAUSE)

    async def terminate(self, run_id: str, reason: str = "") -> None:
        """End a run now; what it executes runs on to its next operation, and is not recorded."""
        execution = await self._newest(await self._execution(run_id))
        if execution.status.is_final or execution.status is Status.BLOCKED:
            msg = f"run {run_id!r} has ended already: it is {execution.status.value}"
            raise RunEnded(msg)
        error = {"ErrorType": "pyworkflow.run.Terminated", "ErrorMessage": reason or "terminated"}
        await self.clients.call(
            self.clients.functions().stop_durable_execution, DurableExecutionArn=execution.arn, Error=error
        )

    async def retry(self, run_id: str) -> None:
        """Refuse: an execution that has ended cannot be resumed."""
        run = await self.run(run_id)
        if run.status not in {Status.BLOCKED, Status.FAILED}:
            msg = f"run {run_id!r} is {run.status.value}; only a blocked or a failed run can be retried"
            raise RunEnded(msg)
        msg = (
            f"run {run_id!r} is {run.status.value}, and AWS resumes no execution that has ended: start a new run of "
            f"workflow {run.workflow!r} with another run_id, or none. It does all steps again, so have them find out "
            "by themselves what must not be done twice, such as by an id that is an argument of the workflow"
        )
        raise Unsupported(msg)

    async def work(self) -> None:
        """Do nothing: AWS invokes the function."""

    async def resume_hook(self, token: str, payload: Any) -> str:
        """Send *payload* to the open hook with this token; return the id of its run.

        A token that begins with a run's id and a colon, ``order-1:approval``, is searched in that run and in those
        that continue it; any other one in all runs in progress, the oldest first, one call of AWS for each.
        """
        digest = token_digest(token)
        candidates = [token.partition(":")[0]] if ":" in token else []
        for arn in await self._call(waiting, self.function, self.qualifier, candidates):
            execution = await self._newest(await self._details(arn))
            past = await self._past(execution)
            if digest in past.hooks:
                await self._resume(execution, past, digest, payload)
                return execution.run_id
        raise HookClosed(NO_HOOK)

    async def _resume(self, execution: Execution, past: Past, digest: str, payload: Any) -> None:
        value = past.encode(digest, payload, self.app.codec)
        text = dumps_plain(cast("Plain", {"at": milliseconds(datetime.now(UTC)), "value": value}))
        if len(text) > LIMIT:
            name = past.hooks[digest].hook.name
            msg = f"the payload of hook {name!r} is {len(text):,} bytes as JSON, and AWS takes {LIMIT:,}"
            raise PayloadTooLarge(msg)
        pause = _FIRST_PAUSE
        while (found := past.hooks.get(digest)) is not None:
            if found.callback is not None and await self._answer(found.callback, text):
                return
            if found.callback is not None and not found.hook.many:
                break
            await asyncio.sleep(pause)  # the run is about to open it
            pause = min(1.5 * pause, _LAST_PAUSE)
            past = await self._past(await self._details(execution.arn))
        raise HookClosed(NO_HOOK)

    async def hooks(self, run_id: str | None = None) -> list[Hook]:
        """Return open hooks, of one run or of all in progress: one call of AWS for each."""
        if run_id is not None:
            arns = [(await self._execution(run_id)).arn]
        else:
            arns = await self._call(waiting, self.function, self.qualifier, [])
        found: list[Hook] = []
        for arn in arns:
            past = await self._past(await self._details(arn))
            found += [waited.hook for waited in past.hooks.values()]
        return sorted(found, key=lambda hook: (hook.run_id, hook.op))

    async def close(self, grace: float = 0.0) -> None:  # noqa: ARG002 -- the port's
        """Close connections; runs continue."""
        self.clients.close()

    # -- AWS ---------------------------------------------------------------------------------

    async def _call(self, function: Any, *args: Any) -> Any:
        return await self.clients.call(function, self.clients.functions(), *args)

    async def _execution(self, run_id: str) -> Execution:
        """Return the execution of a run.

        Raises:
            RunNotFound: There is none.
        """
        if run_id not in self._arns:
            arn = await self._call(find, self.function, self.qualifier, execution_name(run_id))
            if arn is None:
                raise RunNotFound(f"function {self.function!r} has no run {run_id!r}")
            self._arns[run_id] = arn
        return await self._details(self._arns[run_id])

    async def _newest(self, execution: Execution) -> Execution:
        """Return the execution that continues this one, or itself."""
        while execution.status is Status.CONTINUED:
            execution = await self._execution(execution.continued or "")
        return execution

    async def _details(self, arn: str) -> Execution:
        answer = await self.clients.call(self.clients.functions().get_durable_execution, DurableExecutionArn=arn)
        return Execution.of(answer)

    async def _past(self, execution: Execution) -> Past:
        return await self._call(past_of, execution, self.app, self._payloads(execution.run_id))  # type: ignore[no-any-return]

    async def _answer(self, callback: str, payload: str) -> bool:
        """Answer a callback; False: it has been answered, or its execution has ended."""
        try:
            await self.clients.call(
                self.clients.functions().send_durable_execution_callback_success,
                CallbackId=callback,
                Result=payload.encode(),
            )
        except ClientError as error:
            if error.response["Error"]["Code"] in {"CallbackTimeoutException", "ResourceNotFoundException"}:
                return False
            raise
        return True

    def _payloads(self, run_id: str) -> Payloads:
        return Payloads(self.settings.bucket, f"pyworkflow/{execution_name(run_id)}", self.clients.objects)


def _outcome(execution: Execution, payloads: Payloads) -> Plain:
    run_id = execution.run_id
    match execution.status:
        case Status.COMPLETED:
            return payloads.read(json.dumps(execution.result))[0]
        case Status.CANCELLED:
            raise RunCancelled(f"run {run_id!r} was cancelled")
        case Status.TERMINATED:
            raise RunTerminated(f"run {run_id!r} was terminated{': ' + execution.message if execution.message else ''}")
        case Status.BLOCKED:
            raise RunBlocked(f"run {run_id!r} is blocked: {execution.message}")
        case _:
            raise rebuild(execution.error)
