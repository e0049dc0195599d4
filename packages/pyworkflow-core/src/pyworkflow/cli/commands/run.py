"""``pyworkflow run``: starts a run, or goes on with one, and waits for its end."""

from __future__ import annotations

import asyncio
import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click
from attrs import define

from pyworkflow.app import App
from pyworkflow.authoring.definitions import Workflow
from pyworkflow.cli.arguments import read_call
from pyworkflow.cli.group import global_options, pass_session
from pyworkflow.cli.load import load_workflow
from pyworkflow.cli.session import Session, leave, on_signal, place_of, quoted
from pyworkflow.cli.view.output import EXIT_OF, Exit, flat, plain_text, print_json, say
from pyworkflow.errors import ConfigError, RunExists, RunNotFound, Unsupported, WorkflowError
from pyworkflow.events import RunStarted
from pyworkflow.handle import RunHandle
from pyworkflow.model import Status
from pyworkflow.plugins.modes import settle_mode
from pyworkflow.ports import DurableRuntime, Mode

_OTHERS = 10.0
"""Seconds that steps of other runs, which were taken over meanwhile, get to end in."""

_BEGINS = 5.0
"""Seconds within which a worker begins a run, if there is one."""


@define
class _Call:
    """What the command line asks for."""

    session: Session
    target: str
    texts: tuple[str, ...]
    named: tuple[str, ...]
    run_id: str | None
    idempotency_key: str | None
    json: bool


@click.command()
@click.argument("target", metavar="MODULE:WORKFLOW")
@click.argument("args", nargs=-1)
@click.option(
    "-k", "--kwarg", "named", metavar="NAME=VALUE", multiple=True, help="A keyword argument; may be repeated."
)
@click.option("--run-id", metavar="ID", help="The run's id. If there is such a run already, go on with it.")
@click.option("--idempotency-key", metavar="KEY", help="Start at most one run with this key.")
@click.option("--durable/--transient", default=None, help="Mode for workflows that do not set durable=.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@global_options
@pass_session
def run(  # noqa: PLR0917 -- one for each option
    session: Session,
    target: str,
    args: tuple[str, ...],
    named: tuple[str, ...],
    run_id: str | None,
    idempotency_key: str | None,
    durable: bool | None,  # noqa: FBT001 -- by keyword, from click
    as_json: bool,  # noqa: FBT001 -- the same
) -> None:
    """Run a workflow, wait for its end, and print its result.

    MODULE is a dotted name, looked for in the current directory first, or a path that ends in .py. ARGS are JSON
    values; what is not JSON is text. Put -- before arguments that begin with a dash.

    The run's id goes to standard error. Typed again with the same --run-id, after a Ctrl-C or a kill -9, the command
    goes on with the run, or prints its result if it has ended.

    \b
    Exit codes: 0 completed, 1 the workflow failed, 2 usage or configuration, 3 blocked,
    4 cancelled or terminated, 130 interrupted.

    \b
    Examples:
      pyworkflow run shop:checkout o-1
      pyworkflow run examples/shop.py:checkout o-1 --run-id order-1
      pyworkflow run shop:invoice '{"id": 7, "lines": []}' -k currency=eur --json
    """  # noqa: D301 -- \b is for click: it keeps the lines that follow as they are
    workflow = load_workflow(target)
    if durable is not None and workflow.durable not in {None, durable}:
        said = "durable" if workflow.durable else "transient"
        msg = f"workflow {workflow.name!r} is declared durable={workflow.durable}, so it is always {said}"
        raise ConfigError(msg)
    app = session.app(default_durable=durable)
    call = _Call(session, target, args, named, run_id, idempotency_key, as_json)
    code = asyncio.run(_run(app, workflow, call))
    if code:
        click.get_current_context().exit(code)


async def _run(app: App, workflow: Workflow[..., Any], call: _Call) -> int:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 -- tells the type checker
    with on_signal(task.cancel) as signals:
        handle: RunHandle[Any] | None = None
        code: int = Exit.INTERRUPTED
        try:
            handle, mode = await _begin(app, workflow, call)
            say(f"run {handle.id}" + (f" in {place_of(app, workflow.runtime)}" if mode is Mode.DURABLE else ""))
            code = await _finish(app, handle, mode, call)
        except asyncio.CancelledError:
            if not signals:
                raise
        finally:
            while task.uncancel():
                pass
            await app.close(0.0 if signals else _OTHERS)
        if signals:
            code = Exit.INTERRUPTED
            say(_how_to_go_on(app, handle, workflow, call))
        leave(code)
        return code


async def _begin(app: App, workflow: Workflow[..., Any], call: _Call) -> tuple[RunHandle[Any], Mode]:
    """Start a run, or attach to the one that has the id."""
    name = workflow.runtime or app.settings.default_runtime
    runtime = app.runtime(name)
    mode = settle_mode(
        app.plugins.runtime(name), name, durable=workflow.durable, default_durable=app.settings.default_durable
    )
    if mode is Mode.DURABLE and call.run_id is not None and (records := runtime.records) is not None:
        attached = await _attach(app, records, workflow, call)
        if attached is not None:
            return attached, mode
    args, kwargs = read_call(workflow, app.codec, call.texts, call.named)
    handle = await app.start(workflow, args, kwargs, run_id=call.run_id, idempotency_key=call.idempotency_key)
    return handle, mode


async def _attach(
    app: App, runtime: DurableRuntime, workflow: Workflow[..., Any], call: _Call
) -> RunHandle[Any] | None:
    run_id = call.run_id
    assert run_id is not None  # noqa: S101 -- else there is nothing to attach to
    try:
        run = await runtime.run(run_id)
    except RunNotFound:
        return None
    if run.workflow != workflow.name:
        msg = f"the run id {run_id!r} belongs to a run of workflow {run.workflow!r} already, not of {workflow.name!r}"
        raise RunExists(msg)
    if call.texts or call.named:
        _, events = await runtime.history(run_id)
        started = events[0]
        args, kwargs = read_call(workflow, app.codec, call.texts, call.named)
        if isinstance(started, RunStarted) and workflow.signature_for(app.codec).encode_call(args, kwargs) != (
            started.args,
            started.kwargs,
        ):
            msg = (
                f"there is a run {run_id!r} of {workflow.name!r} already, and it was started with other arguments; "
                "give those or none to go on with it, or another --run-id to start a new one"
            )
            raise RunExists(msg)
    handle = RunHandle(run_id, runtime, workflow, app.codec)
    if (await handle.newest()).status is Status.RUNNING:
        await runtime.work()
    return handle


async def _finish(app: App, handle: RunHandle[Any], mode: Mode, call: _Call) -> int:
    """Wait for the end of the run and tell it."""
    hint = asyncio.ensure_future(_say_if_nobody_begins(app, handle, mode, call))
    with _quiet_about(handle.id, call.session):
        try:
            value = await handle.result()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # by a signal
            say(f"run {handle.id} was cancelled")
            return Exit.CANCELLED
        except Exception as error:  # noqa: BLE001 -- a workflow may raise anything
            return await _told(app, handle, mode, error, call)
        finally:
            hint.cancel()
    if call.json:
        print_json(_json_of(value, app, handle))
    elif value is not None:
        click.echo(plain_text(value))
    return Exit.OK


async def _say_if_nobody_begins(app: App, handle: RunHandle[Any], mode: Mode, call: _Call) -> None:
    if mode is not Mode.DURABLE:
        return
    await asyncio.sleep(_BEGINS)
    with suppress(WorkflowError):
        run = await handle.run()
        if run.status is Status.RUNNING and run.length == 1:
            command = call.session.command(app, f"worker {quoted(call.target.partition(':')[0])}")
            say(f"no worker has begun it yet; this is one: {command}")


def _json_of(value: Any, app: App, handle: RunHandle[Any]) -> Any:
    workflow = handle.workflow
    return app.codec.encoder()(value) if workflow is None else workflow.signature_for(app.codec).encode_result(value)


async def _told(app: App, handle: RunHandle[Any], mode: Mode, error: Exception, call: _Call) -> int:
    """Say how a run ended without a result; return the exit code."""
    run_id, status = handle.id, Status.FAILED
    if mode is Mode.DURABLE:
        try:
            newest = await handle.newest()
            run_id, status = newest.id, newest.status
        except Unsupported:  # a runtime that keeps its records elsewhere; then the error is the workflow's
            status = Status.FAILED
        if status not in EXIT_OF or status is Status.COMPLETED:
            raise error  # the run is well: it is the result that could not be had
    if status is Status.FAILED:
        say(f"run {run_id} failed: {type(error).__qualname__}: {flat(error)}")
    else:
        say(flat(error))
    if call.session.verbosity:
        traceback.print_exception(error)
    if mode is Mode.DURABLE:
        say(f"see: {call.session.command(app, f'runs show {run_id}')}")
        if status is Status.BLOCKED:
            say(f"then: {call.session.command(app, f'runs retry {run_id}')}")
    return EXIT_OF[status]


def _how_to_go_on(app: App, handle: RunHandle[Any] | None, workflow: Workflow[..., Any], call: _Call) -> str:
    if handle is None:
        return "interrupted before a run was started"
    if handle.runtime.records is None or workflow.durable is False:
        return "interrupted; the run was transient, so nothing of it is left"
    words = f"run {quoted(call.target)} --run-id {handle.id}"
    return f"interrupted; run {handle.id} is released. Resume it: {call.session.command(app, words)}"


@contextmanager
def _quiet_about(run_id: str, session: Session) -> Iterator[None]:
    """Keep the worker from logging how this run ended, as the command tells it itself."""

    def keep(record: logging.LogRecord) -> bool:
        return bool(session.verbosity) or getattr(record, "run_id", None) != run_id

    # On handlers, which see the records of every module; a filter of a logger sees only its own.
    handlers: list[logging.Handler] = [*logging.getLogger().handlers, *logging.getLogger("pyworkflow").handlers]
    handlers += [logging.lastResort] if logging.lastResort is not None else []
    for handler in handlers:
        handler.addFilter(keep)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(keep)
        sys.stdout.flush()
