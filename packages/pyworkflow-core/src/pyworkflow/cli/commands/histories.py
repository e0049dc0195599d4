"""``pyworkflow runs export``, ``runs import`` and ``pyworkflow replay``: histories as files."""

from __future__ import annotations

import os
from pathlib import Path

import click

from pyworkflow.app import default_app
from pyworkflow.cli.finding import find_history, stored
from pyworkflow.cli.group import global_options, pass_session
from pyworkflow.cli.load import load_workflow
from pyworkflow.cli.session import Session
from pyworkflow.cli.view.output import Exit, say
from pyworkflow.errors import NonDeterminism
from pyworkflow.inspection.export import from_json, to_json
from pyworkflow.inspection.replay import replay_history
from pyworkflow.model import Run, Status
from pyworkflow.ports import DurableRuntime


@click.command("export", short_help="Write a run with its history to a JSON file.")
@click.argument("run_id", metavar="RUN")
@click.option("--output", "-o", metavar="FILE", default="-", show_default=True, help="Where to; - is standard output.")
@click.option("--move", is_flag=True, help="Block the run here, so that it can go on elsewhere.")
@global_options
@pass_session
def export(session: Session, run_id: str, output: str, move: bool) -> None:  # noqa: FBT001 -- by keyword, from click
    """Write a run with its history to a JSON file, readable by its owner only.

    The file has everything that the run has: arguments, results, and what the tokens of its hooks derive from.
    """

    async def asked(runtime: DurableRuntime) -> tuple[Run, str]:
        run, events = await find_history(runtime, run_id)
        if move:
            await stored(runtime).control.leave(run)
        return run, to_json(run, events)

    run, text = session.ask(asked)
    if output == "-":
        click.echo(text, nl=False)
    else:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    if move:
        say(f"run {run.id} is blocked here; `runs import` makes it go on elsewhere, `runs retry` here")


@click.command("import", short_help="Add runs from files that `runs export` wrote.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@global_options
@pass_session
def import_(session: Session, files: tuple[str, ...]) -> None:
    """Add runs from files that `runs export` wrote; those that were in progress go on."""
    found = [from_json(Path(file).read_bytes(), file) for file in files]

    async def asked(runtime: DurableRuntime) -> None:
        for run, events in found:
            await stored(runtime).control.adopt(run, events)

    session.ask(asked)
    for run, _ in found:
        goes_on = "; it goes on as soon as a worker takes it" if run.status is Status.RUNNING else ""
        say(f"run {run.id} of {run.workflow} is here, {run.status.value}{goes_on}")


@click.command(short_help="Replay exported histories against today's code.")
@click.argument("target", metavar="MODULE:WORKFLOW")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
def replay(target: str, files: tuple[str, ...]) -> None:
    """Replay exported histories against today's code; exit code 1 if a run could not go on with it.

    No step runs and nothing is written. In CI this finds the change that would block runs in progress.
    """
    workflow, failed = load_workflow(target), 0
    for file in files:
        _, events = from_json(Path(file).read_bytes(), file)
        try:
            replay_history(workflow, events, default_app().codec)
            say(f"{file}: ok, {len(events)} events")
        except NonDeterminism as error:
            failed += 1
            say(f"{file}: {error}")
    if failed:
        click.get_current_context().exit(Exit.FAILED)
