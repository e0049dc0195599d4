"""``pyworkflow runs …``: look at runs, and tell them things."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from pyworkflow.cli.arguments import attribute
from pyworkflow.cli.commands.histories import export, import_
from pyworkflow.cli.commands.schedules import sentence
from pyworkflow.cli.finding import find_history, tell
from pyworkflow.cli.group import Commands, global_options, pass_session
from pyworkflow.cli.session import Session, described, place_of
from pyworkflow.cli.view import reports, wording
from pyworkflow.cli.view.output import EXIT_OF, console, print_json, print_lines, print_table, say, trimmed
from pyworkflow.cli.view.timeline import timeline
from pyworkflow.cli.view.wording import one_line
from pyworkflow.codec import Codec
from pyworkflow.config.durations import delta
from pyworkflow.engine.scheduler import SUFFIX, state_of
from pyworkflow.errors import ConfigError, RunNotFound
from pyworkflow.events import Event
from pyworkflow.inspection.explain import explain as explain_run
from pyworkflow.inspection.explain import open_children_of, since_failure
from pyworkflow.model import FINAL, Run, RunQuery, Status
from pyworkflow.ports import DurableRuntime

_LOOKS = 0.25
"""Seconds between two looks at a run that is followed."""

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_status = click.Choice([status.value for status in Status])


@click.group(cls=Commands)
def runs() -> None:
    """Look at durable runs, and tell them things. A RUN may be abbreviated."""


@runs.command("list")
@click.option("--status", type=_status, help="Only runs with this status.")
@click.option("--workflow", metavar="NAME", help="Only runs of this workflow.")
@click.option("--where", multiple=True, metavar="NAME=VALUE", help="Only runs with this attribute; may be repeated.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many at most.")
@click.option("--cursor", help="Go on where a page before ended.")
@_json_option
@global_options
@pass_session
def list_(  # noqa: PLR0917 -- one for each option
    session: Session,
    status: str | None,
    workflow: str | None,
    where: tuple[str, ...],
    limit: int,
    cursor: str | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    """List runs, the newest first."""
    wanted = dict(attribute(word) for word in where)
    query = RunQuery(Status(status) if status else None, workflow, limit=limit, cursor=cursor, attributes=wanted)
    page = session.ask(lambda runtime: runtime.runs(query))
    if as_json:
        print_json(reports.of_page(page))
        return
    if not page.runs:
        place = place_of(session.app())
        hint = "; --storage names another place" if place == described(session.app()) else ""
        say(f"no such runs in {place}{hint}")
        return
    now = datetime.now(UTC)
    rows = [
        (
            run.id,
            run.workflow,
            wording.status(run),
            wording.moment(run.created_at),
            wording.between(run.created_at, run.ended_at or now),
            str(run.length or "-"),  # where a runtime does not count them
        )
        for run in page.runs
    ]
    heads = ("run", "workflow", "status", "started", "took", "events")
    print_table(heads, rows, give="workflow", right=("took", "events"))
    if page.cursor is not None:
        say(f"there are more: --cursor {page.cursor!r}")


@runs.command(short_help="Draw a timeline of a run.")
@click.argument("run_id", metavar="RUN")
@click.option("--follow", "-f", is_flag=True, help="Keep updating until the run ends.")
@_json_option
@global_options
@pass_session
def show(session: Session, run_id: str, follow: bool, as_json: bool) -> None:  # noqa: FBT001 -- by keyword, from click
    """Draw a timeline of a run: its operations, their attempts and waits."""
    if follow and not as_json:
        run = session.ask(lambda runtime: _follow(runtime, run_id))
        if run.status in EXIT_OF:
            click.get_current_context().exit(EXIT_OF[run.status])
        return
    run, events = session.ask(lambda runtime: find_history(runtime, run_id))
    now = datetime.now(UTC)
    if as_json:
        print_json(reports.of_timeline(run, timeline(events, now)))
        return
    out = console()
    print_lines(_drawn(run, events, now, out), out)


async def _follow(runtime: DurableRuntime, run_id: str) -> Run:
    from rich.console import Group
    from rich.live import Live

    out = console()
    run, events = await find_history(runtime, run_id)
    with Live(console=out, auto_refresh=False, transient=not out.is_terminal) as live:
        while True:
            lines = _drawn(run, events, datetime.now(UTC), out)
            live.update(Group(*(trimmed(line, out) for line in lines)), refresh=True)
            if run.status in FINAL or run.status is Status.BLOCKED:
                break
            await asyncio.sleep(_LOOKS)
            run, events = await runtime.history(run.id)
    if not out.is_terminal:
        print_lines(_drawn(run, events, datetime.now(UTC), out), out)
    return run


def _drawn(run: Run, events: Sequence[Event], now: datetime, out: Any) -> list[Any]:
    from pyworkflow.cli.view.drawing import drawing

    return list(drawing(run, timeline(events, now), now, width=out.width, ascii_only=not _speaks_unicode()))


def _speaks_unicode() -> bool:
    return (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")


@runs.command()
@click.argument("run_id", metavar="RUN")
@_json_option
@global_options
@pass_session
def history(session: Session, run_id: str, as_json: bool) -> None:  # noqa: FBT001 -- by keyword, from click
    """Print the events of a run, numbered."""
    run, events = session.ask(lambda runtime: find_history(runtime, run_id))
    if as_json:
        print_json(reports.of_history(run, events))
        return
    names = wording.names_of(events)
    rows = []
    for number, event in enumerate(events, 1):
        word, rest = wording.happened(event, names)
        at = event.at.astimezone()
        rows.append((str(number), f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03}", word, rest))
    print_table(("#", "at", "event", ""), rows, give="", right=("#",))


@runs.command(short_help="Say why a run is where it is.")
@click.argument("run_id", metavar="RUN")
@_json_option
@global_options
@pass_session
def explain(session: Session, run_id: str, as_json: bool) -> None:  # noqa: FBT001 -- by keyword, from click
    """Say why a run is where it is: what it waits for, since when, who wakes it, what went wrong."""
    run, sentences = session.ask(lambda runtime: _explained(session.app().codec, runtime, run_id))
    if as_json:
        print_json({**reports.of_run(run), "explanation": sentences})
        return
    click.echo(f"run {run.id} of {run.workflow} is {wording.status(run)}")
    for text in sentences:
        click.echo(one_line(text))


async def _explained(codec: Codec, runtime: DurableRuntime, text: str) -> tuple[Run, list[str]]:
    run, events = await find_history(runtime, text)
    if run.workflow.endswith(SUFFIX) and run.status is Status.RUNNING:
        return run, [sentence(run.workflow.removesuffix(SUFFIX), state_of(events, codec))]
    children = {}
    for child in open_children_of(run, events).values():
        with suppress(RunNotFound):  # it is about to be created
            children[child] = await runtime.run(child)
    return run, explain_run(run, events, datetime.now(UTC), children)


@runs.command(short_help="Ask a run to stop; it may clean up.")
@click.argument("run_id", metavar="RUN")
@click.option("--reason", default="", help="Why; it is kept in the history.")
@click.option("--grace", metavar="TIME", help="Terminate it if it has not ended after that time.")
@global_options
@pass_session
def cancel(session: Session, run_id: str, reason: str, grace: str | None) -> None:
    """Ask a run to stop: its workflow sees CancelledError, and may clean up."""
    limit = None if grace is None else delta(grace, name="--grace")

    async def asked(runtime: DurableRuntime) -> Run:
        found = await tell(runtime, run_id, "cancel", reason, limit)
        return await runtime.run(found)

    run = session.ask(asked)
    if run.status is Status.BLOCKED:
        say(f"run {run.id} is blocked: it stops once it is retried; `pyworkflow runs terminate {run.id}` ends it now")
    else:
        say(f"run {run.id} is asked to stop; a worker that has it, or the next one, sees to it")


@runs.command(short_help="End a run now, without any clean-up.")
@click.argument("run_id", metavar="RUN")
@click.option("--reason", default="", help="Why; it is kept in the history.")
@global_options
@pass_session
def terminate(session: Session, run_id: str, reason: str) -> None:
    """End a run now: no code of it runs any more, no clean-up either."""
    say(f"run {session.ask(lambda runtime: tell(runtime, run_id, 'terminate', reason))} is terminated")


@runs.command(short_help="Let a blocked or failed run go on.")
@click.argument("run_id", metavar="RUN")
@global_options
@pass_session
def retry(session: Session, run_id: str) -> None:
    """Let a blocked run go on, or a failed one do once more what failed."""

    async def asked(runtime: DurableRuntime) -> tuple[str, str]:
        run, events = await find_history(runtime, run_id)
        await runtime.retry(run.id)
        return run.id, since_failure(events)

    found, later = session.ask(asked)
    say(f"run {found} goes on as soon as a worker takes it")
    if later:
        say(f"what it ran after it had failed is not undone by that: {later}")


@runs.command()
@click.option("--before", required=True, metavar="AGE|DATE", help="Runs that ended before: 30d, or 2026-01-31.")
@click.option("--status", "statuses", type=_status, multiple=True, help="Only these; may be repeated.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@global_options
@pass_session
def purge(session: Session, before: str, statuses: tuple[str, ...], yes: bool) -> None:  # noqa: FBT001 -- from click
    """Delete ended runs with their histories."""
    when, wanted = _time(before), [Status(status) for status in statuses] or sorted(FINAL, key=lambda s: s.value)
    open_ones = [status.value for status in wanted if status not in FINAL]
    if open_ones:
        msg = f"only ended runs can be deleted, not {' or '.join(open_ones)} ones"
        raise ConfigError(msg)
    words = ", ".join(status.value for status in wanted)
    if not yes:
        question = f"delete {words} runs that ended before {wording.moment(when)}"
        if not sys.stdin.isatty():
            msg = f"to {question}, say --yes"
            raise ConfigError(msg)
        click.confirm(question[0].upper() + question[1:] + "?", abort=True)
    deleted = session.ask(lambda runtime: runtime.purge(when, wanted))
    say(f"{deleted} {'run' if deleted == 1 else 'runs'} deleted")


def _time(text: str) -> datetime:
    with suppress(ValueError):
        return datetime.fromisoformat(text).astimezone(UTC)
    try:
        return datetime.now(UTC) - max(timedelta(0), delta(text, name="--before"))
    except ConfigError:
        msg = f"--before {text}: give an age such as 30d or 12h, or a date such as 2026-01-31"
        raise ConfigError(msg) from None


runs.add_command(export)
runs.add_command(import_)
