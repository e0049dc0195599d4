"""Schedules as durable runs: one run for each scheduled workflow sleeps until the next time, and starts it.

There is no process for it: the run is one like any other, advanced by whatever worker there is. It is started by the
first worker that knows the workflow, and signalled of a changed schedule by the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from pyworkflow.authoring import primitives
from pyworkflow.authoring.context import in_workflow, step_context
from pyworkflow.authoring.definitions import Step, StepOptions, Workflow, default_registry
from pyworkflow.authoring.hooks import OpenedHook, hook
from pyworkflow.authoring.schedule import Overlap, Schedule
from pyworkflow.codec.signature import required_parameters
from pyworkflow.errors import ConfigError, DefinitionError, RunEnded, RunNotFound
from pyworkflow.events import Event, Posted, Received, RunStarted
from pyworkflow.model import Run, RunQuery, Status
from pyworkflow.ports import Mode, StartRequest

if TYPE_CHECKING:
    from pyworkflow.codec import Codec
    from pyworkflow.engine.runtime import StoredRuntime

SUFFIX = ":schedule"
"""What the name of a workflow and this is the name of the workflow that starts it."""

_ROUNDS = 100
"""So many times, or messages, a run sees before it goes on as a new one."""

_MOST = 1000
"""So many runs are started by one backfill."""


@frozen
class Control:
    """What somebody tells a schedule.

    Attributes:
        do: ``pause``, ``resume``, ``trigger``, ``backfill`` or ``update``.
        start: Of a backfill: after which time.
        end: Of a backfill: up to which time.
        schedule: Of an update.
    """

    do: str
    start: datetime | None = None
    end: datetime | None = None
    schedule: Schedule | None = None


@frozen
class State:
    """What a schedule knows.

    Attributes:
        schedule: The schedule.
        last: The time up to which everything due was seen to.
        paused: Times pass and start nothing.
        running: The run that was started last.
    """

    schedule: Schedule
    last: datetime
    paused: bool = False
    running: str | None = None

    def after(self, told: Control) -> State:
        """Return its state after a control message."""
        match told:
            case Control(do="pause"):
                return evolve(self, paused=True)
            case Control(do="resume"):
                return evolve(self, paused=False)
            case Control(do="update", schedule=Schedule() as schedule):
                return evolve(self, schedule=schedule)
            case _:
                return self


def run_id_of(name: str) -> str:
    """Return the id of the first run of the schedule of a workflow."""
    return f"schedule:{name}"


# -- declaring -------------------------------------------------------------------------


def check(function: Callable[..., Any], *, durable: bool | None) -> None:
    """Refuse a function that a schedule cannot start.

    Raises:
        DefinitionError: It needs arguments, or is transient.
    """
    name = function.__qualname__
    if needed := required_parameters(function):
        msg = f"workflow {name!r} has a schedule, so nobody gives it its argument {needed[0]!r}; give it a default"
        raise DefinitionError(msg)
    if durable is False:
        msg = f"workflow {name!r} has a schedule, and only durable runs can be started by one; drop durable=False"
        raise DefinitionError(msg)


def declare(flow: Workflow[..., Any]) -> Workflow[..., Any]:
    """Declare the workflow that starts *flow* by its schedule."""

    async def scheduler(state: State) -> None:
        await _keep(flow, state)

    if begin not in flow.registry.at_work:
        flow.registry.at_work.append(begin)
    return Workflow(scheduler, flow.name + SUFFIX, flow.registry, runtime=flow.runtime, durable=True)


# -- the run ---------------------------------------------------------------------------


async def _keep(flow: Workflow[..., Any], state: State) -> None:
    control = hook("control", Control, many=True)
    for _ in range(_ROUNDS):
        due = await next_after(state.schedule, state.last)
        told = await _wait(control, due)
        if told is not None:
            state = await _obey(flow, state.after(told), told)
        elif due is not None:
            late = primitives.now() - due
            state = evolve(state, last=due)
            if not state.paused and late <= state.schedule.catch_up:
                state = await _fire(flow, state, due)
    await primitives.continue_as_new(state)


async def _wait(control: OpenedHook[Control], due: datetime | None) -> Control | None:
    """Return the next control message, or None once the schedule is *due*."""
    message: asyncio.Future[Any] = asyncio.ensure_future(control.take())
    timer: asyncio.Future[Any] = message if due is None else asyncio.ensure_future(primitives.sleep(due))
    try:
        done, _ = await primitives.wait([message, timer], return_when=asyncio.FIRST_COMPLETED)
        return message.result() if message in done else None
    finally:
        message.cancel()
        timer.cancel()


async def _obey(flow: Workflow[..., Any], state: State, told: Control) -> State:
    if told.do == "trigger":
        return evolve(state, running=await in_workflow("start").start_child(flow, (), {}, None, None))
    if told.do == "backfill" and told.start is not None and told.end is not None:
        for due in await between(state.schedule, told.start, told.end):
            await _start(flow, due)
    return state


async def _fire(flow: Workflow[..., Any], state: State, due: datetime) -> State:
    overlap = state.schedule.overlap
    if state.running is not None and overlap is not Overlap.ALLOW and await going_on(state.running):
        if overlap is Overlap.SKIP:
            return state
        await stop(state.running, f"the schedule starts the run of {due:%Y-%m-%d %H:%M %Z}")
    return evolve(state, running=await _start(flow, due))


async def _start(flow: Workflow[..., Any], due: datetime) -> str:
    key = f"{flow.name}:{due:%Y%m%dT%H%M%SZ}"  # whoever asks for this time again gets this run
    return await in_workflow("start").start_child(flow, (), {}, key, key)


def _step(name: str) -> Callable[[Callable[..., Any]], Step[..., Any]]:
    return lambda function: Step(function, name, default_registry, StepOptions())


def _runs() -> Any:
    """Return the runtime that keeps the runs of the application which this step belongs to."""
    context = step_context.get()
    assert context is not None  # noqa: S101 -- these are steps
    return context.app.recorded()


# Steps, as the rules of time zones change, and replay has to see the times that were seen before.


@_step("pyworkflow.schedule.next_after")
async def next_after(schedule: Schedule, at: datetime) -> datetime | None:
    """Return when a schedule is due next."""
    return schedule.next_after(at)


@_step("pyworkflow.schedule.between")
async def between(schedule: Schedule, start: datetime, end: datetime) -> list[datetime]:
    """Return when a schedule was due in a stretch of time."""
    return schedule.between(start, end, limit=_MOST)


@_step("pyworkflow.schedule.going_on")
async def going_on(run_id: str) -> bool:
    """Whether a run, or one that continues it, is in progress."""
    try:
        return not (await _runs().control.newest(run_id)).status.is_final
    except RunNotFound:
        return False


@_step("pyworkflow.schedule.stop")
async def stop(run_id: str, reason: str) -> None:
    """Ask a run to stop."""
    try:
        await _runs().cancel(run_id, reason)
    except (RunNotFound, RunEnded):
        return


# -- looking after schedules -------------------------------------------------------------


async def begin(app: Any, runtime: Any) -> None:
    """Have the scheduled workflows of *runtime* started when they are due; for a process that begins to work."""
    from pyworkflow.engine.runtime import StoredRuntime

    flows = [app.registry.workflows[name] for name in app.workflows_of(runtime)]
    scheduled = [flow for flow in flows if flow.schedule is not None]
    if scheduled and isinstance(runtime, StoredRuntime):
        await ensure(runtime, scheduled)


async def ensure(runtime: StoredRuntime, flows: Sequence[Workflow[..., Any]]) -> None:
    """Start the runs of the schedules of *flows*, and signal changes to those that are in progress."""
    for flow in flows:
        schedule, scheduler = flow.schedule, runtime.app.registry.workflows[flow.name + SUFFIX]
        if schedule is None:
            continue
        try:
            state, status = await look(runtime, flow.name)
        except RunNotFound:
            args, kwargs = scheduler.signature_for(runtime.app.codec).encode_call(
                (State(schedule, runtime.clock.now()),), {}
            )
            run_id = run_id_of(flow.name)
            await runtime.start(StartRequest(scheduler, args, kwargs, Mode.DURABLE, run_id, run_id))
            continue
        if status is Status.RUNNING and state.schedule != schedule:
            await tell(runtime, flow.name, Control("update", schedule=schedule))


async def look(runtime: StoredRuntime, name: str) -> tuple[State, Status]:
    """Return what the schedule of a workflow knows, and the status of its run.

    Raises:
        RunNotFound: It has none.
    """
    run = await _newest(runtime, name)
    _, events = await runtime.history(run.id)
    return state_of(events, runtime.app.codec), run.status


async def _newest(runtime: StoredRuntime, name: str) -> Run:
    try:
        return await runtime.control.newest(run_id_of(name))
    except RunNotFound:  # runs that it began with were purged, and the chain with them
        page = await runtime.runs(RunQuery(workflow=name + SUFFIX, limit=1))
        if not page.runs:
            raise
        return page.runs[0]


def state_of(events: Sequence[Event], codec: Codec) -> State:
    """Return what a schedule knows, of the history of its run."""
    started, *rest = events
    assert isinstance(started, RunStarted)  # noqa: S101 -- every history begins so
    state: State = codec.decoder(State)(started.args[0])
    for event in rest:
        if isinstance(event, Posted) or (isinstance(event, Received) and not event.posted):
            state = state.after(codec.decoder(Control)(event.value))
    return state


async def tell(runtime: StoredRuntime, name: str, control: Control) -> None:
    """Tell a schedule something.

    Raises:
        RunNotFound: The workflow has no schedule.
        ConfigError: It has one that has ended.
    """
    run = await _newest(runtime, name)
    value = runtime.app.codec.encoder(Control)(control)
    try:  # posted, as the run may be about to continue as a new one, or not have begun
        await runtime.control.signal(run.id, [Posted(runtime.clock.now(), "control", "", value)])
    except RunEnded:
        msg = f"the schedule of workflow {name!r} has ended: its run is {run.status.value}"
        raise ConfigError(msg) from None
