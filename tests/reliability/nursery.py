"""Worker processes, forked from one that has imported everything; whichever dies is replaced at once.

Usage: nursery.py FOLDER COUNT. The settings of the workers' app come from the environment. FOLDER/todo, if it is there,
has a line for each run to be started: which worker starts it, its workflow, its id, and its arguments as JSON; the ids
of those that have ended are written to FOLDER/ended. Prints the process id of each worker, and each writes it to
FOLDER/working once it works. At the end of its input it tells them to stop.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import os
import select
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3  # noqa: F401 -- before the fork, like the others of these
import kit_flows  # noqa: F401 -- the workflows

import pyworkflow.backends.local  # noqa: F401
import pyworkflow_aws.dynamodb  # noqa: F401
from pyworkflow import App
from pyworkflow.authoring.definitions import default_registry
from pyworkflow.errors import RunExists
from pyworkflow.testing.runtime_kit.workflows import note, notes

AT_ONCE = 4  # runs that a worker begins and waits for


async def work(folder: Path, number: int) -> None:
    """Work until SIGTERM, and start what is to be started here, again if that was begun before."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with App() as app, app.worker():
        note(str(folder / "working"), str(os.getpid()))
        begun = asyncio.create_task(start_all(app, folder, number))
        await stop.wait()
        begun.cancel()
        await asyncio.gather(begun, return_exceptions=True)


async def start_all(app: App, folder: Path, number: int) -> None:
    room = asyncio.Semaphore(AT_ONCE)
    ended = set(notes(str(folder / "ended")))  # by a worker that was here before
    plans = [json.loads(line) for line in notes(str(folder / "todo"))]
    mine = [plan for who, *plan in plans if who == number and plan[1] not in ended]
    await asyncio.gather(*(start(app, folder, room, plan) for plan in mine))


async def start(app: App, folder: Path, room: asyncio.Semaphore, plan: list[Any]) -> None:
    flow, run_id, args = plan
    async with room:
        with suppress(RunExists):
            await app.start(default_registry.workflows[flow], args, run_id=run_id)
        await app.recorded().result(run_id)
        note(str(folder / "ended"), run_id)


def born(folder: Path, number: int) -> int:
    """Fork a worker; return its process id."""
    pid = os.fork()
    if pid:
        print(pid, flush=True)
        return pid
    faulthandler.register(signal.SIGUSR1)  # to say where it is
    asyncio.run(work(folder, number))
    os._exit(0)


def main(folder: Path, count: int) -> None:
    workers = {born(folder, number): number for number in range(count)}
    stopping = False
    while workers:
        if not stopping and select.select([sys.stdin], [], [], 0.01)[0]:
            stopping = True
            for pid in workers:
                os.kill(pid, signal.SIGTERM)
        pid, _ = os.waitpid(-1, 0 if stopping else os.WNOHANG)
        if pid:
            number = workers.pop(pid)
            if not stopping:
                workers[born(folder, number)] = number


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
