"""The storage contract around a journal: one thread uses it, and takes what waits in one transaction."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from attrs import frozen

from pyworkflow import wire
from pyworkflow.errors import ConfigError, DamagedHistory, StorageError, WorkflowError
from pyworkflow.events import Event
from pyworkflow.model import Append, Hook, Job, Lease, Page, Run, RunQuery, Status
from pyworkflow.ports import Storage
from pyworkflow_files.journal import Journal
from pyworkflow_files.state import State
from pyworkflow_files.transaction import Transaction

T = TypeVar("T")


@frozen(eq=False)
class _Call:
    act: Callable[[Transaction], Any]
    writes: bool
    answer: Future[Any]


class FileStorage(Storage):
    """Runs in plain files, which any number of processes on one machine may share.

    Args:
        folder: Where the files are; made, for its owner only, if it is not there.
        compact: From how many bytes on the journal is written anew, where that makes it half as long or less.
    """

    def __init__(self, folder: str | Path, *, compact: int = 16 * 1024 * 1024) -> None:
        if compact <= 0:
            msg = f"compact={compact}: it is a number of bytes above zero"
            raise ConfigError(msg)
        self.folder = Path(folder)
        self._compact = self._next_compact = compact
        self._opening = threading.Lock()
        self._begin()

    def __repr__(self) -> str:
        return f"FileStorage({str(self.folder)!r})"

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._guard = threading.Lock()
        self._journal = Journal(self.folder)
        self._state = State()
        self._stale = True  # the state is not what the journal says
        self._waiting: list[_Call] = []
        self._thread: ThreadPoolExecutor | None = None

    async def open(self) -> None:
        """Open the files, or make them."""
        await asyncio.to_thread(self._open)

    def _open(self) -> None:
        with self._opening:
            if self._thread is not None and self._pid == os.getpid():
                return
            self._begin()
            self._journal.open()
            self._thread = ThreadPoolExecutor(1, "pyworkflow-files")
        try:
            self._call(lambda _: None, writes=False)
        except BaseException:
            self._close()
            raise

    async def close(self) -> None:
        """Write what waits and close the files."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        with self._opening:
            with self._guard:
                thread, self._thread = self._thread, None
            if thread is not None:
                thread.shutdown()
                self._journal.close()

    # -- the thread ----------------------------------------------------------------------

    def _submit(self, act: Callable[[Transaction], T], *, writes: bool) -> Future[T]:
        if self._thread is not None and self._pid != os.getpid():  # a forked child: threads stayed with its parent
            self._opening = threading.Lock()
            self._open()
        answer: Future[T] = Future()
        with self._guard:
            if self._thread is None:
                msg = f"the storage {self.folder} is not open"
                raise StorageError(msg)
            self._waiting.append(_Call(act, writes, answer))
            if len(self._waiting) == 1:
                self._thread.submit(self._work)
        return answer

    def _call(self, act: Callable[[Transaction], T], *, writes: bool) -> T:
        return self._submit(act, writes=writes).result()

    async def _ask(self, act: Callable[[Transaction], T], *, writes: bool) -> T:
        return await asyncio.wrap_future(self._submit(act, writes=writes))

    def _work(self) -> None:
        with self._guard:
            calls, self._waiting = self._waiting, []
        calls = [call for call in calls if call.answer.set_running_or_notify_cancel()]
        try:
            answers = self._carry_out(calls)
        except Exception as error:  # noqa: BLE001 -- handed to the callers
            self._stale = True
            failed = error if isinstance(error, WorkflowError) else StorageError(f"{self.folder}: {error}")
            answers = [failed] * len(calls)
        for call, answer in zip(calls, answers, strict=True):
            if isinstance(answer, Exception):
                call.answer.set_exception(answer)
            else:
                call.answer.set_result(answer)

    def _carry_out(self, calls: Sequence[_Call]) -> list[Any]:
        """Return the results of *calls*, or their errors; what they change is one transaction of the journal."""
        writes = any(call.writes for call in calls)
        with self._journal.locked(exclusive=writes):
            self._catch_up(exclusive=writes)
            transaction, answers = Transaction(self._state), []
            for call in calls:
                try:
                    answers.append(call.act(transaction))
                except WorkflowError as error:  # refused, before anything was changed
                    answers.append(error)
            if transaction.changes:
                self._journal.add(transaction.changes)
                if self._journal.size >= self._next_compact:
                    self._write_anew()
        return answers

    def _catch_up(self, *, exclusive: bool) -> None:
        if self._journal.begins_anew(afresh=self._stale):
            self._state = State()
        self._stale = False
        for record in self._journal.news(exclusive=exclusive):
            for change in record:
                self._state.apply(change)

    def _write_anew(self) -> None:
        self._journal.replace(self._state.records())
        self._catch_up(exclusive=True)
        self._next_compact = max(self._compact, 2 * self._journal.size)

    # -- runs ----------------------------------------------------------------------------

    async def create(
        self,
        run: Run,
        events: Sequence[Event],
        jobs: Sequence[Job],
        hooks: Sequence[Hook] = (),
        *,
        lease: Lease | None = None,
    ) -> Run | None:
        """Add a run; see `Storage.create`."""
        return await self._ask(lambda t: t.create(run, events, jobs, hooks, lease), writes=True)

    async def run(self, run_id: str) -> Run:
        """Return a run; see `Storage.run`."""
        return await self._ask(lambda t: t.run(run_id), writes=False)

    async def load(self, run_id: str, after: int = 0) -> tuple[Run, list[Event]]:
        """Return a run and its later events; see `Storage.load`."""

        def act(transaction: Transaction) -> tuple[Run, list[tuple[int, str]]]:
            run, length, parts = transaction.run(run_id), 0, []
            for count, text in transaction.state.histories[run_id]:
                length += count
                if length > after:
                    parts.append((count, text))
            return run, parts

        run, parts = await self._ask(act, writes=False)
        events: list[Event] = []
        for count, text in parts:
            try:
                part = wire.loads(text)
            except StorageError as error:
                msg = f"the history of run {run_id!r} cannot be read: {error}"
                raise DamagedHistory(msg) from error
            if len(part) != count:
                msg = f"the history of run {run_id!r} is damaged: {len(part)} events instead of {count}"
                raise DamagedHistory(msg)
            events += part
        return run, events[len(events) - max(0, run.length - after) :]

    async def append(self, append: Append) -> int:
        """Add to a history; see `Storage.append`."""
        return await self._ask(lambda t: t.append(append), writes=True)

    # -- hooks ---------------------------------------------------------------------------

    async def find_hook(self, token: str) -> Hook | None:
        """Return an open hook; see `Storage.find_hook`."""
        return await self._ask(lambda t: t.state.hooks.get(token), writes=False)

    async def hooks(self, run_id: str | None = None, limit: int = 1000) -> list[Hook]:
        """Return open hooks; see `Storage.hooks`."""
        found = await self._ask(lambda t: list(t.state.hooks.values()), writes=False)
        found = [hook for hook in found if run_id in {None, hook.run_id}]
        return sorted(found, key=lambda hook: (hook.run_id, hook.op))[:limit]

    # -- listing -------------------------------------------------------------------------

    async def runs(self, query: RunQuery) -> Page:
        """Return runs, the newest first; see `Storage.runs`."""
        position = None if query.cursor is None else _position(query.cursor)
        found = await self._ask(lambda t: list(t.state.runs.values()), writes=False)
        found = [run for run in found if _matches(run, query)]
        found.sort(key=lambda run: (run.created_at, run.id), reverse=True)
        if position is not None:
            found = [run for run in found if (run.created_at, run.id) < position]
        page = found[: query.limit]
        more = len(found) > query.limit
        return Page(page, json.dumps([page[-1].created_at.isoformat(), page[-1].id]) if more else None)

    async def purge(self, before: datetime, statuses: Collection[Status]) -> int:
        """Delete ended runs; see `Storage.purge`."""
        return await self._ask(lambda t: t.purge(before, statuses), writes=True)

    # -- jobs ----------------------------------------------------------------------------

    async def claim(
        self,
        worker: str,
        now: datetime,
        lease: timedelta,
        limit: int,
        *,
        workflows: Collection[str] | None = None,
        queues: Collection[str] = ("",),
    ) -> list[Lease]:
        """Claim jobs whose time has come; see `Storage.claim`."""
        return await self._ask(lambda t: t.claim(worker, now, lease, limit, workflows, queues), writes=True)

    def renew(self, worker: str, now: datetime, lease: timedelta) -> list[tuple[str, int]]:
        """Prolong a worker's lease, or end it; see `Storage.renew`."""
        return self._call(lambda t: t.renew(worker, now, lease), writes=True)

    async def due(self) -> datetime | None:
        """Return when `claim` may next find a job; see `Storage.due`."""

        def act(transaction: Transaction) -> datetime | None:
            state = transaction.state
            free = [job.due for job in state.all_jobs() if job.worker is None and job.due is not None]
            leases = [until for worker, until in state.leases.items() if worker in state.by_worker]
            return min([*free, *leases], default=None)

        return await self._ask(act, writes=False)


def _matches(run: Run, query: RunQuery) -> bool:
    return (
        query.status in {None, run.status}
        and query.workflow in {None, run.workflow}
        and (query.created_after is None or run.created_at > query.created_after)
        and (query.created_before is None or run.created_at < query.created_before)
        and all(name in run.attributes and run.attributes[name] == value for name, value in query.attributes.items())
    )


def _position(cursor: str) -> tuple[datetime, str]:
    try:
        created, run_id = json.loads(cursor)
        return datetime.fromisoformat(created), str(run_id)
    except (ValueError, TypeError) as error:
        msg = f"{cursor!r} is not a cursor of this storage; use the one that came with the page before"
        raise ConfigError(msg) from error
