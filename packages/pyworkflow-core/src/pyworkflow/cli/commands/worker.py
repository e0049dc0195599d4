"""``pyworkflow worker``: runs a worker until it is stopped."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import click

from pyworkflow.app import App
from pyworkflow.authoring.definitions import Workflow
from pyworkflow.cli.group import global_options, pass_session
from pyworkflow.cli.load import load_module, workflows_of
from pyworkflow.cli.session import Session, described, leave, on_signal
from pyworkflow.cli.view.output import say
from pyworkflow.config.durations import seconds
from pyworkflow.errors import ConfigError
from pyworkflow.ports import Serves


@click.command(short_help="Run a worker: resume waiting and interrupted runs.")
@click.argument("modules", metavar="MODULE...", nargs=-1, required=True)
@click.option(
    "--grace", default="10s", show_default=True, metavar="TIME", help="How long running steps may go on at the end."
)
@click.option("--concurrency", type=click.IntRange(1), metavar="N", help="How much to do at once, e.g. processes.")
@click.option("--queues", metavar="NAME,...", help="Queues to serve, as steps name them; '' is that of runs.")
@global_options
@pass_session
def worker(session: Session, modules: tuple[str, ...], grace: str, concurrency: int | None, queues: str | None) -> None:
    """Carry on what is due: sleeping runs, retries, and the runs of processes that died.

    MODULE is a dotted name or a path that ends in .py; a worker takes only runs of workflows that these declare or
    import. It stops at SIGTERM or Ctrl-C: takes nothing more, lets running steps end, and hands the rest back. A second
    signal ends it at once; nothing is lost by that either.

    With a runtime that has workers of its own kind, such as Celery's, this becomes one; --concurrency and --queues are
    for those.
    """
    limit = seconds(grace, name="--grace")
    if limit < 0:
        msg = f"--grace {grace}: give zero or more"
        raise ConfigError(msg)
    flows = [workflow for place in modules for workflow in workflows_of(load_module(place)).values()]
    if not flows:
        msg = f"there are no workflows in {', '.join(map(repr, modules))}, so there is nothing to work on"
        raise ConfigError(msg)
    app = session.app()
    runtime = app.runtime()
    names = _taken(app, flows)
    if isinstance(runtime, Serves):
        served = () if queues is None else tuple(name.strip() for name in queues.split(","))
        say(f"working on {described(app)}: {names}; stop with Ctrl-C or SIGTERM")
        leave(code := runtime.serve(concurrency=concurrency, queues=served, grace=timedelta(seconds=limit)))
        sys.exit(code)
    if concurrency is not None or queues is not None:
        option = "--queues" if concurrency is None else "--concurrency"
        msg = f"{option} is for runtimes with workers of their own kind, and {app.settings.default_runtime!r} has none"
        raise ConfigError(msg)
    asyncio.run(_work(app, names, limit))
    leave(0)


def _taken(app: App, flows: Sequence[Workflow[..., Any]]) -> str:
    """Return which of *flows* a worker of the default runtime takes, and which it leaves to others.

    Raises:
        ConfigError: They are all for workers of another runtime.
    """
    known, default = set(app.workflows_of(app.runtime())), app.settings.default_runtime
    mine = ", ".join(sorted(flow.name for flow in flows if flow.name in known))
    others = sorted((flow.name, flow.runtime or default) for flow in flows if flow.name not in known)
    listed = ", ".join(f"{name} ({runtime})" for name, runtime in others)
    if not mine:
        msg = f"a worker of runtime {default!r} has nothing to do with {listed}; say --runtime {others[0][1]}"
        raise ConfigError(msg)
    return f"{mine}; left to others: {listed}" if others else mine


async def _work(app: App, names: str, grace: float) -> None:
    stop = asyncio.Event()
    with on_signal(stop.set):
        async with app, app.worker(grace=grace):
            say(f"working on {described(app)}: {names}; stop with Ctrl-C or SIGTERM")
            await stop.wait()
            say("stopping: running steps may end, the rest is released")
    say("stopped")
