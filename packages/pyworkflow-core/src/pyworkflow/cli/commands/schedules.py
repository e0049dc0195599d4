"""``pyworkflow schedules …``: see schedules, and tell them things."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from pyworkflow.cli.finding import stored
from pyworkflow.cli.group import Commands, global_options, pass_session
from pyworkflow.cli.session import Session
from pyworkflow.cli.view.output import print_json, print_table, say
from pyworkflow.cli.view.wording import between, moment
from pyworkflow.engine.scheduler import SUFFIX, Control, State, look, tell
from pyworkflow.errors import ConfigError, RunNotFound
from pyworkflow.model import RunQuery, Status
from pyworkflow.ports import DurableRuntime

_PAGE = 1000


@click.group(cls=Commands, short_help="See when workflows are due, and tell schedules things.")
def schedules() -> None:
    """See when workflows are due, and pause, resume, trigger or backfill them. NAME is a workflow's name."""


@schedules.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@global_options
@pass_session
def list_(session: Session, as_json: bool) -> None:  # noqa: FBT001 -- by keyword, from click
    """List the active schedules and their next times."""
    found = session.ask(_all)
    if as_json:
        print_json([_report(name, state) for name, state in found])
        return
    rows = []
    for name, state in found:
        due = state.schedule.next_after(max(state.last, datetime.now(UTC)))
        next_ = "paused" if state.paused else "never" if due is None else moment(due)
        rows.append((name, state.schedule.cron, state.schedule.timezone, state.schedule.overlap.value, next_))
    print_table(("workflow", "schedule", "time zone", "overlap", "next"), rows, give="workflow")


@schedules.command()
@click.argument("name")
@global_options
@pass_session
def pause(session: Session, name: str) -> None:
    """Let times pass without starting anything."""
    _tell(session, name, Control("pause"))
    say(f"the schedule of {name} is paused")


@schedules.command()
@click.argument("name")
@global_options
@pass_session
def resume(session: Session, name: str) -> None:
    """Start runs again from now on."""
    _tell(session, name, Control("resume"))
    say(f"the schedule of {name} goes on")


@schedules.command()
@click.argument("name")
@global_options
@pass_session
def trigger(session: Session, name: str) -> None:
    """Start a run now, whatever the time."""
    _tell(session, name, Control("trigger"))
    say(f"a run of {name} is started as soon as a worker resumes the schedule")


@schedules.command(short_help="Start the runs of a stretch of time that has passed.")
@click.argument("name")
@click.option("--start", "start", required=True, metavar="TIME", help="Times after this, such as 2026-01-31T00:00Z.")
@click.option("--end", "end", required=True, metavar="TIME", help="And up to this.")
@global_options
@pass_session
def backfill(session: Session, name: str, start: str, end: str) -> None:
    """Start the runs of a stretch of time that has passed; those that were started then are not started again."""
    _tell(session, name, Control("backfill", _time(start, "--start"), _time(end, "--end")))
    say(f"the runs of {name} are started as soon as a worker resumes the schedule")


def _time(text: str, option: str) -> datetime:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        msg = f"{option} {text}: write a time such as 2026-01-31T09:00+01:00"
        raise ConfigError(msg) from None
    return when.astimezone(UTC)


def _tell(session: Session, name: str, control: Control) -> None:
    async def asked(runtime: DurableRuntime) -> None:
        try:
            await tell(stored(runtime), name, control)
        except RunNotFound:
            known = ", ".join(sorted(one for one, _ in await _all(runtime))) or "none at all"
            msg = f"workflow {name!r} has no active schedule; there are: {known}. Workers start them"
            raise ConfigError(msg) from None

    session.ask(asked)


async def _all(runtime: DurableRuntime) -> list[tuple[str, State]]:
    found, cursor = [], None
    while True:
        page = await runtime.runs(RunQuery(Status.RUNNING, limit=_PAGE, cursor=cursor))
        names = {run.workflow.removesuffix(SUFFIX) for run in page.runs if run.workflow.endswith(SUFFIX)}
        found += [(name, (await look(stored(runtime), name))[0]) for name in sorted(names)]
        cursor = page.cursor
        if cursor is None:
            return found


def sentence(name: str, state: State) -> str:
    """Return what the run of a schedule waits for."""
    now = datetime.now(UTC)
    due = state.schedule.next_after(max(state.last, now))
    when = f"{state.schedule.cron!r} in {state.schedule.timezone}"
    if state.paused:
        return f"It is the schedule of workflow {name!r}, {when}, and paused: see `pyworkflow schedules resume {name}`."
    next_ = "never again" if due is None else f"next at {moment(due)}, in {between(now, due)}"
    return f"It starts workflow {name!r} when {when} says, {next_}, by whatever worker there is."


def _report(name: str, state: State) -> dict[str, Any]:
    due = state.schedule.next_after(max(state.last, datetime.now(UTC)))
    return {
        "workflow": name,
        "schedule": state.schedule.cron,
        "timezone": state.schedule.timezone,
        "overlap": state.schedule.overlap.value,
        "paused": state.paused,
        "next": None if due is None else due.isoformat(),
        "running": state.running,
    }
