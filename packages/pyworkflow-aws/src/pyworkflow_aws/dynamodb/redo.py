"""What is too much for one transaction: written down with the append, then done bit by bit, by whoever comes first.

A run with something left is due at once for anybody, so a crash in between is made up for by the next `Storage.claim`,
and by whoever appends to the run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from attrs import evolve

from pyworkflow import wire
from pyworkflow.model import Effects, Hook, Job
from pyworkflow_aws.dynamodb.client import CheckFailed, Client, Write
from pyworkflow_aws.dynamodb.draft import Draft, RunDraft
from pyworkflow_aws.dynamodb.keys import REDO, Item, job_key, of_run
from pyworkflow_aws.dynamodb.payloads import TOGETHER, fetch, forget, unpacked

Intent = dict[str, Any]
"""One thing to write, as JSON: ``do`` says what."""

_WEIGHTS = {"job": 2, "drop": 2, "gone": 1, "close": 2, "tell": 3}
"""How many items each may take."""


def intents(jobs: Sequence[Job], also: Effects, gone: Sequence[int], hooks: Sequence[Hook]) -> list[Intent]:
    """Return what may be written after an append.

    Args:
        jobs: Jobs with items of their own that belong to nobody.
        also: As of the append; its hooks are not among this.
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
            "data": job.data,
        }
        for job in jobs
    ]
    made += [{"do": "drop", "op": op} for op in also.drop]
    made += [{"do": "tell", "run": message.run_id, "events": wire.dumps(message.events)} for message in also.tell]
    return made


def weight(todo: Sequence[Intent]) -> int:
    """Return how many items *todo* takes at most."""
    return sum(_WEIGHTS[intent["do"]] for intent in todo)


def carry_out(draft: Draft, run: RunDraft, todo: Sequence[Intent], now: int) -> None:
    """Have *draft* do it."""
    draft.look_up(run, [intent["op"] for intent in todo if intent["do"] in {"job", "drop"}])
    for intent in todo:
        match intent["do"]:
            case "gone":
                draft.extra.append(Write(job_key(run.head.run.id, intent["op"])))
            case "close":
                draft.forget_hook(Hook(intent["token"], intent["run"], intent["op"], ""))
            case "job":
                due = intent["due"] and datetime.fromisoformat(intent["due"])
                job = Job(run.head.run.id, intent["op"], due, intent["workflow"], intent["queue"], intent["data"])
                draft.write_job(run, job)
            case "drop":
                draft.drop_job(run, intent["op"])
            case "tell":
                draft.tell(intent["run"], wire.loads(intent["events"]), now)


def note(draft: Draft, run: RunDraft, todo: Sequence[Intent], now: int) -> None:
    """Have *draft* write down what is left to do, and mark the run."""
    run.head = evolve(run.head, redo=True)
    run_id = run.head.run.id
    payload = draft.keep(run_id, json.dumps(todo), TOGETHER)
    item: Item = {"PK": of_run(run_id), "SK": REDO, "d": payload, "at": now, "n": 0}
    draft.extra.append(Write((of_run(run_id), REDO), item))


def catch_up(client: Client, run_id: str) -> None:
    """Do what an append to a run left; returns when nothing is left, whoever did it."""
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
        carry_out(draft, run, piece, int(item["at"]))
        condition, values = "n = :n", {":n": done}
        if done + len(piece) == len(todo):
            run.head = evolve(run.head, redo=False)
            draft.extra.append(Write(key, None, condition, {**values}))
        else:
            draft.extra.append(Write(key, {**item, "n": done + len(piece)}, condition, {**values}))
        try:
            client.write(draft.writes())
        except CheckFailed:
            draft.give_up()  # somebody else is at it too, or was at one of the runs
            continue
        if not run.head.redo:
            forget(client, run_id, [payload])


def _piece(todo: Sequence[Intent], room: int) -> Sequence[Intent]:
    count, weighs = 0, 0
    while count < len(todo) and (weighs := weighs + _WEIGHTS[todo[count]["do"]]) <= room:
        count += 1
    return todo[: max(count, 1)]
