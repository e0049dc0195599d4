"""Runs in a storage: reading them, and signalling them from outside. Who executes them is not known here."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from attrs import define, evolve

from pyworkflow.authoring.context import token_digest
from pyworkflow.codec.exceptions import record_of
from pyworkflow.engine.hook_payloads import NO_HOOK, fitting_payload
from pyworkflow.engine.waiters import last_event
from pyworkflow.errors import (
    Conflict,
    HookClosed,
    RunBlocked,
    RunEnded,
    RunExists,
)
from pyworkflow.events import (
    CancelRequested,
    Event,
    HandedOut,
    Posted,
    Received,
    RunContinued,
    RunFailed,
    RunRetried,
    RunStarted,
)
from pyworkflow.events import RunBlocked as BlockedEvent
from pyworkflow.events import RunTerminated as TerminatedEvent
from pyworkflow.model import RUN_OP, Append, Effects, Hook, Job, Page, Run, RunQuery, Status
from pyworkflow.replay.effects import hook_of, to_child, to_parent
from pyworkflow.replay.history import continued_as, effective, open_children, open_hooks, retry_cut

if TYPE_CHECKING:
    from pyworkflow.clock import Clock
    from pyworkflow.engine.host import Host
    from pyworkflow.ports import Storage


class Owner(Protocol):
    """A runtime of runs in a storage, as far as `RunControl` needs it."""

    app: Host

    async def storage(self) -> Storage:
        """Return the storage, open."""

    def nudge(self, run_id: str) -> None:
        """Have the worker of this process see what was written to a run."""

    async def notify(self, jobs: Sequence[Job]) -> None:
        """Have somebody claim *jobs*, which became due just now; a hint, which must not raise."""


@define(eq=False)
class RunControl:
    """Reads runs, and writes to them what comes from outside. It needs no worker."""

    owner: Owner

    @property
    def _clock(self) -> Clock:
        return self.owner.app.clock

    # -- reading -------------------------------------------------------------------------

    async def newest(self, run_id: str) -> Run:
        """Return the run, or the one that it goes on as if it has continued as a new one."""
        run = await self.run(run_id)
        while run.status is Status.CONTINUED and isinstance(
            last := await last_event(await self.owner.storage(), run), RunContinued
        ):
            run = await self.run(last.run_id)
        return run

    async def run(self, run_id: str) -> Run:
        """Return what is known of a run."""
        return await (await self.owner.storage()).run(run_id)

    async def history(self, run_id: str) -> tuple[Run, list[Event]]:
        """Return a run and all its events."""
        return await (await self.owner.storage()).load(run_id)

    async def runs(self, query: RunQuery) -> Page:
        """Return runs, the newest first."""
        return await (await self.owner.storage()).runs(query)

    async def purge(self, before: datetime, statuses: Collection[Status]) -> int:
        """Delete ended runs; return how many."""
        return await (await self.owner.storage()).purge(before, statuses)

    async def cancel(self, run_id: str, reason: str = "", grace: timedelta | None = None) -> None:
        """Ask a run to stop, and terminate it if it has not ended after *grace*.

        Raises:
            RunNotFound: There is no such run.
            RunEnded: It has ended already.
        """
        now = self._clock.now()
        deadline = None if grace is None else now + grace
        await self.signal(run_id, [CancelRequested(now, reason, deadline)])

    async def terminate(self, run_id: str, reason: str = "") -> None:
        """End a run now; no code of it runs any more. Its children are asked to stop.

        Raises:
            RunNotFound: There is no such run.
            RunEnded: It has ended already.
        """
        storage, now = await self.owner.storage(), self._clock.now()
        end = TerminatedEvent(now, reason)
        while True:
            run, events = await storage.load((await self.newest(run_id)).id)
            if run.status is Status.CONTINUED:
                continue  # just now
            if run.status.is_final:
                raise ended(run)
            later = continued_as(events)
            tell = [to_child(run.id, one, later.get(one.op, ""), now) for one in open_children(effective(events))]
            tell += to_parent(events[0].parent if isinstance(events[0], RunStarted) else None, run.id, end)
            with suppress(Conflict):  # the run went on: its children may be others now, and so may the run itself
                status, effects = Status.TERMINATED, Effects(messages=tell)
                await storage.append(
                    Append(run.id, [end], expected=run.length, status=status, now=now, effects=effects)
                )
                break
        for told in [run.id, *(message.run_id for message in tell)]:
            self.owner.nudge(told)
        if (historian := self.owner.app.historian()) is not None:
            historian(*await storage.load(run.id))
        if tell:
            await self.owner.notify([Job(message.run_id) for message in tell])

    async def retry(self, run_id: str) -> None:
        """Let a blocked run go on, or a failed one do once more what failed.

        Raises:
            RunNotFound: There is no such run.
            RunEnded: It is neither blocked nor failed.
        """
        storage, now = await self.owner.storage(), self._clock.now()
        run, events = await storage.load(run_id)
        if run.status not in {Status.BLOCKED, Status.FAILED}:
            msg = f"run {run_id!r} is {run.status.value}; only a blocked or a failed run can be retried"
            raise RunEnded(msg)
        failure = next((event for event in reversed(events) if isinstance(event, RunFailed | BlockedEvent)), None)
        cut = retry_cut(events, failure.op) if isinstance(failure, RunFailed) else 0
        jobs, retried = [Job(run_id, RUN_OP, now, run.workflow)], RunRetried(now, cut)
        hooks = [hook_of(run_id, command) for command in open_hooks(effective([*events, retried]))]
        try:
            await storage.append(
                Append(
                    run_id,
                    [retried],
                    jobs,
                    expected=run.length,
                    status=Status.RUNNING,
                    now=now,
                    effects=Effects(hooks=hooks),
                )
            )
        except Conflict:
            return  # somebody else did
        await self.owner.notify(jobs)

    async def signal(self, run_id: str, facts: Sequence[Event]) -> None:
        """Add facts from outside to a run's history, and have it look at them.

        Raises:
            RunNotFound: There is no such run.
            RunEnded: It has ended already.
        """
        while True:
            run = await self.newest(run_id)
            if run.status.is_final:
                raise ended(run)
            with suppress(RunEnded):  # just now; it may have continued as a new one
                return await self._add(run, facts)

    async def _add(self, run: Run, facts: Sequence[Event], effects: Effects | None = None) -> None:
        jobs = [Job(run.id, RUN_OP, self._clock.now(), run.workflow)] if run.status is Status.RUNNING else []
        await (await self.owner.storage()).append(Append(run.id, facts, jobs, effects=effects))
        self.owner.nudge(run.id)
        if jobs:
            await self.owner.notify(jobs)

    # -- moving runs -----------------------------------------------------------------------

    async def adopt(self, run: Run, events: Sequence[Event]) -> None:
        """Add a run that was exported elsewhere; one that was in progress goes on here.

        Raises:
            RunExists: There is a run with its id, or its idempotency key, already.
        """
        running, now = run.status is Status.RUNNING, self._clock.now()
        if running and any(isinstance(event, HandedOut) for event in events):
            events = [*events, RunRetried(now)]  # the jobs are not here: dispatched steps are the run's own again
        jobs = [Job(run.id, RUN_OP, now, run.workflow)] if running else []
        asked = [] if run.status.is_final else open_hooks(effective(events))
        hooks = [hook_of(run.id, command) for command in asked]
        existing = await (await self.owner.storage()).create(evolve(run, length=len(events)), events, jobs, hooks)
        if existing is not None:
            msg = f"there is a run {existing.id!r} here already ({existing.status.value})"
            raise RunExists(msg)
        if jobs:
            await self.owner.notify(jobs)

    async def leave(self, run: Run) -> None:
        """Block a run that was exported, so that it does not go on here; `retry` takes it back.

        Raises:
            Conflict: It went on since; export it again.
            RunEnded: It is not in progress.
        """
        if run.status is not Status.RUNNING:
            raise ended(run)
        why = RunBlocked("it was exported to go on elsewhere; retry it only if it does not")
        event = BlockedEvent(self._clock.now(), record_of(why))
        await (await self.owner.storage()).append(Append(run.id, [event], expected=run.length, status=Status.BLOCKED))

    # -- hooks -----------------------------------------------------------------------------

    async def resume_hook(self, token: str, payload: Any) -> str:
        """Send *payload* to the hook with this token; return the id of its run.

        Raises:
            HookClosed: No hook takes payloads for the token.
            Unstorable: The payload does not fit the hook's type, or cannot be stored; the hook stays open.
        """
        storage, digest = await self.owner.storage(), token_digest(token)
        hook = await storage.find_hook(digest)
        while hook is not None:
            try:
                return await self.send(hook, payload)
            except HookClosed:
                closed, hook = hook, await storage.find_hook(digest)
                if hook == closed:
                    raise
        raise HookClosed(NO_HOOK)

    async def send(self, hook: Hook, payload: Any) -> str:
        """Send *payload* to an open hook; return the id of its run.

        Raises:
            HookClosed: It is open no longer.
            Unstorable: The payload does not fit the hook's type, or cannot be stored; the hook stays open.
        """
        storage = await self.owner.storage()
        run, events = await storage.load(hook.run_id)
        value, now = (
            fitting_payload(self.owner.app.registry, self.owner.app.codec, hook, events, payload),
            self._clock.now(),
        )
        try:
            received = Received(now, hook.op, value)
            close = [] if hook.many else [hook.token]
            await self._add(run, [received], Effects(close=close, needs=[hook]))
        except (RunEnded, HookClosed):
            run, events = await storage.load(hook.run_id)
            is_open = any(hook.op == command.op for command in open_hooks(effective(events)))
            if run.status is not Status.CONTINUED or not is_open:  # the next run takes what this one was open for
                raise HookClosed(NO_HOOK) from None
            try:
                await self.signal(run.id, [Posted(now, hook.name, hook.token, value)])  # for the run that continues it
            except RunEnded:
                raise HookClosed(NO_HOOK) from None
        return run.id

    async def hooks(self, run_id: str | None = None) -> list[Hook]:
        """Return open hooks, of one run or of all."""
        return await (await self.owner.storage()).hooks(run_id)


def ended(run: Run) -> RunEnded:
    """Return the refusal to tell a run something that has ended."""
    return RunEnded(f"run {run.id!r} has ended already: it is {run.status.value}")
