"""``pyworkflow worker``: takes part in the work until it is told to stop."""

from __future__ import annotations

import asyncio

import click

from pyworkflow.app import App
from pyworkflow.cli.group import global_options, pass_session
from pyworkflow.cli.load import load_module, workflows_of
from pyworkflow.cli.output import say
from pyworkflow.cli.session import Session, described, leave, on_signal
from pyworkflow.durations import seconds
from pyworkflow.errors import ConfigError


@click.command()
@click.argument("modules", metavar="MODULE...", nargs=-1, required=True)
@click.option(
    "--grace", default="10s", show_default=True, metavar="TIME", help="How long running steps may go on at the end."
)
@global_options
@pass_session
def worker(session: Session, modules: tuple[str, ...], grace: str) -> None:
    """Carry on what is due: sleeping runs, retries, and the runs of processes that died.

    MODULE is a dotted name or a path that ends in .py; a worker takes only runs of workflows that these declare or
    import. It stops at SIGTERM or Ctrl-C: takes nothing more, lets running steps end, and hands the rest back. A second
    signal ends it at once; nothing is lost by that either.
    """
    limit = seconds(grace, name="--grace")
    if limit < 0:
        msg = f"--grace {grace}: give zero or more"
        raise ConfigError(msg)
    names = sorted(workflow.name for place in modules for workflow in workflows_of(load_module(place)).values())
    if not names:
        msg = f"there are no workflows in {', '.join(map(repr, modules))}, so there is nothing to work on"
        raise ConfigError(msg)
    asyncio.run(_work(session.app(), names, limit))
    leave(0)


async def _work(app: App, names: list[str], grace: float) -> None:
    stop = asyncio.Event()
    with on_signal(stop.set):
        async with app, app.worker(grace=grace):
            say(f"working on {described(app)}: {', '.join(names)}; stop with Ctrl-C or SIGTERM")
            await stop.wait()
            say("stopping: running steps may end, the rest is handed back")
    say("stopped")
