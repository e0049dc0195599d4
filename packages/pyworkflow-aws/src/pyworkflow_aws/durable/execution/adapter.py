"""Runs a workflow inside one invocation of a durable function, as far as that goes."""

from __future__ import annotations

import asyncio
import json
import math
import queue
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import Factory, define, field

from pyworkflow.engine.step_runner import next_delay
from pyworkflow.errors import NonDeterminism, RunBlocked
from pyworkflow.events import CallStep, OpenHook, RunStarted, StartChild, StartTimer
from pyworkflow.replay.machine import Outcome
from pyworkflow_aws.durable.execution.log_filter import muted
from pyworkflow_aws.durable.execution.operation_threads import Threads
from pyworkflow_aws.durable.execution.sdk import Abandoned, Interrupted, Journal, Mismatch, Suspended
from pyworkflow_aws.durable.execution.steps import Call, failure_of, now
from pyworkflow_aws.durable.replay.answers import CANCEL, DEADLINE, LATER, ORDER, PATCHED, Replay, check
from pyworkflow_aws.durable.replay.ids import operation_id
from pyworkflow_aws.durable.replay.payloads import Payloads
from pyworkflow_aws.durable.replay.record import SHORT
from pyworkflow_aws.durable.replay.tree import Open, patch_key
from pyworkflow_aws.step_loop import Work

if TYPE_CHECKING:
    from pyworkflow.app import App
    from pyworkflow.authoring.definitions import Workflow

_FIRST_PAUSE, _LAST_PAUSE = 1.0, 10.0
"""Seconds between two polls of the service while steps run: at first, and in the long run."""

_RESERVE = 0.1
"""The last part of an invocation's time, in which nothing is started."""

_SOON = 0.05
"""The least seconds between two polls for an operation that is due."""

StartRun = Callable[[StartChild, str], str]
"""Starts a detached child, given the command and the run that requests it; returns the id of its run."""


@define(eq=False)
class Adapter:
    """One invocation: replays the run, executes what it requests, and leaves by `Suspended` once it can only wait.

    Args:
        app: Where workflows, steps and retry policies are found.
        journal: What is recorded.
        payloads: How values are recorded.
        start_run: Starts detached children.
        cancellable: Whether the run listens for being cancelled while it is suspended, or while a step takes long: that
            is one operation more.
        threads: How many operations run at once.
    """

    app: App
    journal: Journal
    payloads: Payloads
    start_run: StartRun
    cancellable: bool = True
    threads: int = 64
    replay: Replay = field(init=False)
    _time: float | None = field(default=None, init=False)  # the seconds that the invocation had at first
    _threads: Threads = field(init=False, default=Factory(lambda self: Threads(self.threads), takes_self=True))
    _signals: queue.SimpleQueue[tuple[Work, BaseException | None]] = field(factory=queue.SimpleQueue, init=False)
    _pause_between: float = field(default=_FIRST_PAUSE, init=False)
    _next_poll: float | None = field(default=None, init=False)

    def run(self, run_id: str, started: RunStarted) -> Outcome:
        """Run as far as possible; return how the run ends.

        Raises:
            Suspended: It does not end yet.
            RunBlocked, NonDeterminism: It cannot continue.
        """
        before = self.journal.recorded()
        read = self.journal.read
        self.replay = replay = Replay.of(
            self._find, self.app.codec, run_id, started, read, self.payloads, recorded=before
        )
        try:
            with muted(replaying=replay.is_replaying):
                replay.begin()
            self._record_patches()
            while replay.tree.outcome is None:
                turn = replay.next()
                if turn is None:
                    if not self._start_operations():
                        self._wait()
                    continue
                if turn.fresh:
                    order = json.dumps(list(turn.keys))
                    self._request(self.journal.step, replay.order_key, ORDER, lambda _, order=order: order)
                with muted(replaying=replay.is_replaying):
                    replay.apply(turn)
                self._record_patches()
                for found in replay.tree.take_abandoned():
                    if found.work is not None:
                        self._stop(found.work)
            self._check_all_asked({id_ for id_, ended in before.items() if ended})
            return replay.tree.outcome
        finally:
            self._close()

    def _find(self, name: str) -> Workflow[..., Any]:
        workflow = self.app.registry.workflows.get(name)
        if workflow is None:
            known = ", ".join(map(repr, sorted(self.app.registry.workflows))) or "none"
            raise RunBlocked(f"workflow {name!r} is not in the function's module; there are: {known}")
        return workflow

    def _record_patches(self) -> None:
        """Record the `patched` ids answered with True, before what the workflow requested after them is started."""
        for path, change in self.replay.tree.take_patches():
            key, text = patch_key(path, change), json.dumps([path, change])
            if self.journal.read(key) is None:
                self._request(self.journal.step, key, PATCHED, lambda _, text=text: text)

    def _check_all_asked(self, before: set[str]) -> None:
        left = before - {operation_id(key) for key in self.replay.tree.keys}
        if left:
            raise NonDeterminism(
                f"{len(left)} operations are recorded that the workflow does not ask for any more. Was its code "
                "changed while the run was in progress?"
            )

    def _close(self) -> None:
        for found in self.replay.tree.open.values():
            if found.work is not None:
                found.work.stop()
        self.replay.tree.close()
        self._threads.close()

    # -- executing --------------------------------------------------------------------

    def _start_operations(self) -> bool:
        """Start all operations that nothing executes; return whether some may have ended already."""
        todo = [found for found in self.replay.tree.open.values() if self._needs_work(found)]
        if todo and self._is_late():
            if not self._busy():
                self._continue_later()
            return False
        hooks = [found for found in todo if isinstance(found.pending.command, OpenHook)]
        if hooks:  # before the steps: one may send the token on, and the answer may come at once
            todo = hooks
        for found in todo:
            found.work = Work(running=True)
        if len(todo) == 1 and not self._runs_here(todo[0]):
            self._execute(todo[0])
            todo[0].work.running = False
            return True
        for found in todo:
            self._threads.call(partial(self._execute_on_thread, found))
        while hooks and any(found.work.running for found in hooks):
            self._take_signal(None)
        return bool(hooks)

    def _is_late(self) -> bool:
        """Whether so little of the invocation's time is left that nothing should be started."""
        left = self.journal.seconds_left()
        if left is None:
            return False
        if self._time is None:
            self._time = left
        return left < _RESERVE * self._time

    def _continue_later(self) -> None:
        """Leave the rest to another invocation: one that is ended by its time limit would do its last steps again."""
        number = 0
        while self.journal.read(f"later.{number}") is not None:
            number += 1
        self._request(self.journal.wait, f"later.{number}", LATER, 1)

    def _needs_work(self, found: Open) -> bool:
        if found.work is not None and found.work.running:
            return False
        record = self.journal.read(found.key)
        if record is None:
            return True
        check(found, record)
        return record.kind == "STEP" and not record.ended and not record.put_off

    def _runs_here(self, found: Open) -> bool:
        """Whether the operation takes the function's own time."""
        command = found.pending.command
        return not isinstance(command, OpenHook) and not (isinstance(command, StartTimer) and self._is_long(found))

    def _is_long(self, found: Open) -> bool:
        record = self.journal.read(found.key)
        return self._pause(found) >= SHORT if record is None else record.kind != "STEP"

    def _pause(self, found: Open) -> float:
        command = found.pending.command
        assert isinstance(command, StartTimer)  # noqa: S101 -- tells the type checker
        return command.until.timestamp() - time.time() if command.until is not None else command.delay or 0.0

    def _execute_on_thread(self, found: Open) -> None:
        error: BaseException | None = None
        try:
            self._execute(found)
        except BaseException as caught:  # noqa: BLE001 -- raised on the invocation's own thread
            error = caught
        self._signals.put((found.work, error))

    def _execute(self, found: Open) -> None:
        """Request an operation of the service, or execute it; returns once it has ended, or can only be waited for."""
        command, key, work = found.pending.command, found.key, found.work
        want = found.want
        journal = self.journal
        try:
            match command:
                case CallStep():
                    self._execute_step(found, command)
                case StartChild():
                    self._request(journal.step, key, want.name, lambda _: self._start_child(found, command))
                case OpenHook():
                    self._request(journal.callback, key, want.name, _expiry(found, command))
                case StartTimer() if self._is_long(found):
                    self._request(journal.wait, key, want.name, math.ceil(self._pause(found)))
                case StartTimer():
                    pause = self._pause(found)
                    self._request(journal.step, key, want.name, lambda _: self._nap(work, pause))
        except (Suspended, Abandoned):
            pass

    def _request(self, request: Callable[..., None], key: str, *args: Any, **options: Any) -> None:
        try:
            request(key, *args, **options)
        except Mismatch as error:
            raise NonDeterminism(f"operation {key}: {error}") from error

    def _execute_step(self, found: Open, command: CallStep) -> None:
        step = self.app.registry.steps.get(command.name)
        if step is None:
            raise RunBlocked(f"step {command.name!r} is not known here; the function's module has to import it")
        policy, retries = self.app.retry_policy(step)
        work: Work = found.work

        def retry(error: BaseException, number: int) -> float | None:
            return None if isinstance(error, Interrupted) else next_delay(policy, retries, number, error, now())

        what = f"the result of step {command.name!r} ({found.node.run_id}/{found.key})"
        call = Call(
            step,
            self.app.codec,
            command,
            found.node.run_id,
            work,
            lambda value: self.payloads.write(value, now(), what),
        )
        want = found.want
        self._request(
            self.journal.step, found.key, want.name, call.attempt,
            label=want.label, retry=retry, at_most_once=step.options.at_most_once,
        )  # fmt: skip

    def _nap(self, work: Work, pause: float) -> str:
        try:
            work.run(lambda: asyncio.sleep(max(0.0, pause)))
        except asyncio.CancelledError:
            raise Abandoned from None
        return self.payloads.write(None, now(), "a timer")

    def _start_child(self, found: Open, command: StartChild) -> str:
        try:
            run_id = self.start_run(command, found.node.run_id)
        except Exception as error:
            raise failure_of(error) from error
        return self.payloads.write(run_id, now(), "a run id")

    def _stop(self, work: Work) -> None:
        if work.running:
            work.stop()

    # -- waiting -----------------------------------------------------------------------

    def _wait(self) -> None:
        """Return when something may have ended.

        Raises:
            Suspended: Nothing will end in this invocation.
        """
        if not self._busy():
            if not self._listen():
                raise Suspended("the run waits for timers, hooks or retries")
            return
        now = time.monotonic()
        if self._next_poll is None:
            self._next_poll = now + self._pause_between
        if not self._take_signal(max(0.0, min(self._next_poll - now, self._until_wake()))):
            if time.monotonic() >= self._next_poll:
                self._next_poll, self._pause_between = None, min(2 * self._pause_between, _LAST_PAUSE)
                self._listen()
            self.journal.refresh()
            return
        while self._take_signal(0.0):
            pass
        self._next_poll, self._pause_between = None, _FIRST_PAUSE

    def _take_signal(self, timeout: float | None) -> bool:
        """Wait up to *timeout* for a thread that has ended its operation; whether there is one. Raises its error."""
        try:
            work, error = self._signals.get(timeout != 0, timeout)
        except queue.Empty:
            return False
        self._threads.done()
        work.running = False  # on this thread: else the run could suspend before it sees the error
        if error is not None:
            raise error
        return True

    def _busy(self) -> bool:
        return any(found.work is not None and found.work.running for found in self.replay.tree.open.values())

    def _until_wake(self) -> float:
        """Return the seconds until the service may resume an operation that is not executed here."""
        wakes = [
            record.wakes
            for found in self.replay.tree.open.values()
            if not (found.work is not None and found.work.running)
            and (record := self.journal.read(found.key)) is not None
            and record.wakes is not None
        ]
        return max(_SOON, min(wakes) - time.time()) if wakes else math.inf

    def _listen(self) -> bool:
        """Create the callback for cancellations, and the timer for a deadline; whether one of them is new."""
        new = False
        deadline, key = self.replay.tree.root.machine.deadline, self.replay.deadline_key
        if deadline is not None and key is not None and self.journal.read(key) is None:
            self._quietly(self.journal.wait, key, DEADLINE, math.ceil(deadline.timestamp() - time.time()))
            new = True
        if self.cancellable and self.journal.read(self.replay.mailbox) is None:
            self._quietly(self.journal.callback, self.replay.mailbox, CANCEL, None)
            new = True
        return new

    def _quietly(self, request: Callable[..., None], key: str, *args: Any) -> None:
        with suppress(Suspended):
            self._request(request, key, *args)


def _expiry(found: Open, command: OpenHook) -> int | None:
    expires = command.fires_at(now() if found.answers == 0 else found.asked)
    return None if expires is None else math.ceil(expires.timestamp() - time.time())
