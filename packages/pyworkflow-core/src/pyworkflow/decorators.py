"""``@workflow`` and ``@step``."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from pyworkflow.authoring.definitions import Step, StepOptions, Workflow, default_registry
from pyworkflow.config.durations import Duration, delta, seconds
from pyworkflow.errors import BackendNotFound, ConfigError, DefinitionError

if TYPE_CHECKING:
    from pyworkflow.authoring.schedule import Schedule
    from pyworkflow.ports import RetryPolicy

P = ParamSpec("P")
R = TypeVar("R")


@overload
def step(function: Callable[P, Coroutine[Any, Any, R]], /) -> Step[P, R]: ...
@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *,
    name: str | None = None,
    retries: int | None = None,
    retry_delay: Duration | None = None,
    retry_policy: RetryPolicy | str | None = None,
    timeout: Duration | None = None,
    at_most_once: bool = False,
    queue: str = "",
    heartbeat: Duration | None = None,
    undo: Step[..., Any] | None = None,
) -> _StepDecorator: ...


def step(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    retries: int | None = None,
    retry_delay: Duration | None = None,
    retry_policy: RetryPolicy | str | None = None,
    timeout: Duration | None = None,
    at_most_once: bool = False,
    queue: str = "",
    heartbeat: Duration | None = None,
    undo: Step[..., Any] | None = None,
) -> Any:
    """Make a function, sync or async, a step: where side effects live. Use it bare or with arguments.

    Called in a workflow it is an operation of the run: its result is recorded once, it is retried, and never runs again
    once it is recorded; it may run more than once before that. Called anywhere else it is a plain call. Sync functions
    run in a thread; a workflow awaits them too.

    Args:
        function: The function, where the decorator is used bare.
        name: What histories call it; by default the function's qualified name. Keep it when you rename the function.
        retries: How many attempts may follow the first one; by default ``default_retries``, which is 3.
        retry_delay: The same pause before each of them, instead of a policy.
        retry_policy: A policy, or its config string such as ``"exponential?base=2s"``; by default ``default_retry``.
        timeout: How long an attempt may take, as seconds, ``"30s"`` or a `timedelta`.
        at_most_once: Never run it a second time after its worker was lost; it fails with `StepInterrupted` then.
        queue: Which workers run it, on runtimes that have queues.
        heartbeat: An attempt that lets this time pass without ``current_step().heartbeat()`` counts as hung and fails
            with `StepTimeout`; for steps that take long and have no fixed limit.
        undo: A step that undoes this one. When the workflow fails or is cancelled, it runs for each completed call, the
            last one first. It is called with those arguments of the call that it has parameters for; its parameter
            ``result``, if it has one, is given what the call returned.

    Raises:
        DefinitionError: It cannot be a step: a method, a lambda, a generator; or its name is taken; or *undo* does not
            fit.
        ConfigError: An option makes no sense.
    """
    if retries is not None and (not isinstance(retries, int) or isinstance(retries, bool) or retries < 0):
        msg = f"retries={retries!r} of a step: give the number of attempts after the first one, 0 or more"
        raise ConfigError(msg)
    if retry_delay is not None and retry_policy is not None:
        msg = "a step has retry_delay= or retry_policy=, not both"
        raise ConfigError(msg)
    retry = retry_policy if retry_delay is None else _fixed(retry_delay)
    limit, beat = _limit(timeout, "timeout", "step"), _limit(heartbeat, "heartbeat", "step")
    options = StepOptions(retries, retry, limit, at_most_once, queue, beat, undo)

    def decorate(function: Callable[..., Any]) -> Step[..., Any]:
        return Step(function, name, default_registry, options)

    return decorate if function is None else decorate(function)


@overload
def workflow(function: Callable[P, Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...
@overload
def workflow(
    *,
    name: str | None = None,
    runtime: str | None = None,
    durable: bool | None = None,
    timeout: Duration | None = None,
    schedule: Schedule | str | None = None,
    timezone: str = "UTC",
) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Workflow[P, R]]: ...


def workflow(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    runtime: str | None = None,
    durable: bool | None = None,
    timeout: Duration | None = None,
    schedule: Schedule | str | None = None,
    timezone: str = "UTC",
) -> Any:
    """Make an ``async def`` a workflow: it decides, and leaves side effects to steps. Use it bare or with arguments.

    Awaiting a call of it starts a run and waits for its result; `pyworkflow.start` starts one and returns its handle.

    Args:
        function: The function, where the decorator is used bare.
        name: What runs are stored under; by default the function's qualified name. Keep it when you rename that.
        runtime: Where it runs; by default ``default_runtime``.
        durable: Whether its runs are recorded, and survive their process; by default what the runtime can do, then
            ``default_durable``, then the runtime's own default.
        timeout: How long a run may take; then its workflow sees `asyncio.CancelledError`, may clean up, and the run
            fails with `WorkflowTimeout`.
        schedule: When workers start it by themselves: a cron expression such as ``"0 9 * * MON-FRI"``, or a
            `pyworkflow.Schedule` with what to do if the run before is still going on.
        timezone: The clock that a cron expression is about, an IANA name.

    Raises:
        DefinitionError: It cannot be a workflow: not async, a method, a generator; or its name is taken; or the runtime
            cannot be what *durable* says.
    """
    limit = _limit(timeout, "timeout", "workflow")
    times = _schedule(schedule, timezone)

    def decorate(function: Callable[..., Any]) -> Workflow[..., Any]:
        if runtime is not None and durable is not None:
            _check_mode(runtime, durable=durable)
        if times is not None:
            from pyworkflow.engine import scheduler as scheduling

            scheduling.check(function, durable=durable)
        made: Workflow[..., Any] = Workflow(
            function,
            name,
            default_registry,
            runtime=runtime,
            durable=durable,
            timeout=limit,
            schedule=times,
            call=_call,
        )
        if times is not None:
            scheduling.declare(made)
        return made

    return decorate if function is None else decorate(function)


def _schedule(schedule: Schedule | str | None, timezone: str) -> Schedule | None:
    if not isinstance(schedule, str):
        return schedule
    from pyworkflow.authoring.schedule import Schedule

    return Schedule(schedule, timezone)


def _limit(value: Duration | None, option: str, what: str) -> float | None:
    limit = None if value is None else seconds(value)
    if limit is not None and limit <= 0:
        msg = f"{option}={value!r} of a {what}: give more than zero"
        raise ConfigError(msg)
    return limit


def _fixed(delay: Duration) -> RetryPolicy:
    from pyworkflow.backends.retries import Fixed

    return Fixed(delta(delay))


async def _call(workflow: Workflow[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Start a run on the default application, and wait for its result."""
    from pyworkflow.app import default_app

    return await default_app().call(workflow, args, kwargs)


def _check_mode(runtime: str, *, durable: bool) -> None:
    from pyworkflow.app import default_app
    from pyworkflow.plugins.modes import settle_mode

    try:
        offer = default_app().plugins.runtime(runtime)
    except BackendNotFound:
        return  # an error when a run is started, not at import
    settle_mode(offer, runtime, durable=durable, default_durable=None)


class _StepDecorator:
    """What ``@step(...)`` returns, for type checkers: sync and async functions give the same kind of step."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Step[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Step[P, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any:
        raise DefinitionError(function)
