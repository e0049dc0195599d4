"""Deferred writes: what is too much for one transaction is recorded with the append, then applied piece by piece.

A run with deferred writes is due at once for every worker: after a crash the next `Storage.claim`, or the next append
to the run, applies what is left.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from attrs import evolve

from pyworkflow import wire
from pyworkflow.model import Effects, Hook, Job, StepCall
from pyworkflow_aws.dynamodb.client import Client, Write
from pyworkflow_aws.dynamodb.keys import REDO, Item, job_key, of_run
from pyworkflow_aws.dynamodb.payloads import TOGETHER, fetch, forget, unpacked
from pyworkflow_aws.dynamodb.retries import CheckFailed
from pyworkflow_aws.dynamodb.transaction import Draft, RunDraft

Intent = dict[str, Any]
"""One deferred write, as JSON; ``do`` is its kind, and is stored."""

_WEIGHTS = {"job": 2, "drop": 2, "gone": 1, "close": 2, "tell": 3}
"""How many items each may take."""


def intents(jobs: Sequence[Job], effects: Effects, gone: Sequence[int], hooks: Sequence[Hook]) -> list[Intent]:
    """Return what may be written after an append.

    Args:
        jobs: Jobs with items of their own that no worker holds.
        effects: Of the append; its hooks, new runs and attributes are not deferred.
        gone: Operations whose jobs end with the run.
        hooks: Hooks that end with the run.
    """
    made: list[Intent] = [{"do": "gone", "op": op} for op in gone]
    made += [{"do": "close", "token": hook.token, "run": hook.run_id, "op": hook.op} for hook in hooks]
    made += [
        {
            "do": "job",
            "op": job.op,
            "due": job.due and job.due.isoformat(),
            "workflow": job.workflow,
            "queue": job.queue,
            "data": None if job.call is None else _call_data(job.call),
        }
        for job in jobs
    ]
    made += [{"do": "drop", "op": op} for op in effects.drop]
    messages = effects.messages
    made += [{"do": "tell", "run": message.run_id, "events": wire.dumps(message.events)} for message in messages]
    return made


def _call_data(call: StepCall) -> list[Any]:
    return [call.name, call.args, call.kwargs, call.attempt]


def weight(todo: Sequence[Intent]) -> int:
    """Return how many items *todo* takes at most."""
    return sum(_WEIGHTS[intent["do"]] for intent in todo)


def apply(draft: Draft, run: RunDraft, todo: Sequence[Intent], now: int) -> None:
    """Add *todo* to *draft*."""
    draft.look_up(run, [intent["op"] for intent in todo if intent["do"] in {"job", "drop"}])
    for intent in todo:
        match intent["do"]:
            case "gone":
                draft.extra.append(Write(job_key(run.head.run.id, intent["op"])))
            case "close":
                draft.forget_hook(Hook(intent["token"], intent["run"], intent["op"], ""))
            case "job":
                due = intent["due"] and datetime.fromisoformat(intent["due"])
                call = intent["data"] and StepCall(*intent["data"])
                job = Job(run.head.run.id, intent["op"], due, intent["workflow"], intent["queue"], call)
                draft.write_job(run, job)
            case "drop":
                draft.drop_job(run, intent["op"])
            case "tell":
                draft.tell(intent["run"], wire.loads(intent["events"]), now)


def defer(draft: Draft, run: RunDraft, todo: Sequence[Intent], now: int) -> None:
    """Add to *draft* the record of what is left to write, and mark the run."""
    run.head = evolve(run.head, redo=True)
    run_id = run.head.run.id
    payload = draft.keep(run_id, json.dumps(todo), TOGETHER)
    item: Item = {"PK": of_run(run_id), "SK": REDO, "d": payload, "at": now, "n": 0}
    draft.extra.append(Write((of_run(run_id), REDO), item))


def catch_up(client: Client, run_id: str) -> None:
    """Apply the deferred writes of a run; returns when nothing is left, whichever process applied it."""
    key = of_run(run_id), REDO
    todo: list[Intent] = []
    while (item := client.get(key)) is not None:
        payload = item["d"]
        assert not isinstance(payload, int)  # noqa: S101 -- tells the type checker
        todo = todo or json.loads(unpacked(fetch(client, run_id, payload)))
        done = int(item["n"])
        piece = _piece(todo[done:], client.transaction - 2)
        draft = Draft(client)
        run = draft.run(run_id)
        if run is None:
            return
        run.appends = False
        apply(draft, run, piece, int(item["at"]))
        condition, values = "n = :n", {":n": done}
        if done + len(piece) == len(todo):
            run.head = evolve(run.head, redo=False)
            draft.extra.append(Write(key, None, condition, {**values}))
        else:
            draft.extra.append(Write(key, {**item, "n": done + len(piece)}, condition, {**values}))
        try:
            client.write(draft.writes())
        except CheckFailed:
            draft.give_up()  # another process applied a piece too, or wrote to one of the runs
            continue
        if not run.head.redo:
            forget(client, run_id, [payload])


def _piece(todo: Sequence[Intent], room: int) -> Sequence[Intent]:
    count, weighs = 0, 0
    while count < len(todo) and (weighs := weighs + _WEIGHTS[todo[count]["do"]]) <= room:
        count += 1
    return todo[: max(count, 1)]
