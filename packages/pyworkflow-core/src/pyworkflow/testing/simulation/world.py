"""The simulated world: processes that share a storage, clients outside, and what goes wrong for them."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from datetime import datetime, timedelta
from hashlib import blake2b
from itertools import count
from random import Random
from typing import Any

from attrs import define, field, frozen

from pyworkflow.app import App
from pyworkflow.backends.memory import MemoryStorage
from pyworkflow.engine import StoredRuntime, WorkerOptions
from pyworkflow.engine.engine_loop import EngineLoop
from pyworkflow.engine.host import Listener
from pyworkflow.errors import HookClosed, RunEnded, StorageError
from pyworkflow.events import CancelRequested, Event, RunCompleted, RunFailed, RunStarted
from pyworkflow.model import Hook, Run, Status
from pyworkflow.ports import DurableRuntime, Storage
from pyworkflow.replay.state import state_of
from pyworkflow.testing.cancelling import CancelledAt
from pyworkflow.testing.simulation.faults import Faults, FaultyStorage
from pyworkflow.testing.simulation.invariants import Ledger
from pyworkflow.testing.simulation.scenarios import Broken, fits, random_tree, tree
from pyworkflow.testing.simulation.virtual import Process, Pulse, Schedule, VirtualClock

CALM = 40.0
"""From then on, in virtual seconds, nothing goes wrong any more ..."""

LIMIT = 1500.0
"""... and by then every run has to have ended."""

MOST_RUNS = 5

MOST_TURNS = 20_000
"""More of them than any seed needs: somebody goes round in circles."""

_LEASE = timedelta(seconds=4)
_SWEEP = timedelta(seconds=1)
_LONGEST = 4.0  # seconds that a call of the storage takes
_HAZARD = 1 / 150  # per turn of a process


@frozen
class Report:
    """What came of a seed.

    Attributes:
        problems: What is wrong; empty if all is well.
        trace: What happened, line by line.
        faults: What went wrong on purpose, by number.
        digest: Tells runs of events apart.
    """

    seed: int
    problems: list[str]
    trace: list[str]
    faults: dict[int, str]
    runs: int
    turns: int
    digest: str


class SimulatedRuntime(StoredRuntime):
    """A stored runtime with a heartbeat in virtual time, whose hints may get lost, doubled or late."""

    heartbeat = Pulse  # type: ignore[assignment]  # as much of one as is needed

    def __init__(self, app: App, faults: Faults) -> None:
        kept, capacity = faults.chance.choice([0, 1, 1000]), faults.chance.choice([None, None, 1, 2])
        super().__init__(app, WorkerOptions(_LEASE, _SWEEP, kept=kept, capacity=capacity))
        self.faults = faults

    def wake_at(self, when: datetime) -> None:
        if not self._hint("a wake-up", lambda: StoredRuntime.wake_at(self, when)):
            super().wake_at(when)

    def nudge(self, run_id: str) -> None:
        if not self._hint("a hint", lambda: StoredRuntime.nudge(self, run_id)):
            super().nudge(run_id)

    def _hint(self, what: str, again: Callable[[], None]) -> bool:
        """Whether a hint is not to be followed now."""
        if not self.faults.active or self.faults.chance.random() > self.faults.rate:
            return False
        how = self.faults.chance.choice(["is lost", "is late", "comes twice"])
        if not self.faults.strike(f"{what} {how}"):
            return False
        if how != "is lost":
            asyncio.get_running_loop().call_later(self.faults.chance.uniform(0, 3), again)
        return how != "comes twice"


@define(eq=False)
class World:
    """The processes, the storage, and the clients outside.

    Args:
        seed: Decides everything.
        make_storage: Makes the storage; it has to do without threads and sockets.
        without: Numbers of faults to leave out.
        only: The runs to start, by number; None: all of the seed.
    """

    seed: int
    make_storage: Callable[[], Storage] = MemoryStorage
    without: Collection[int] = ()
    only: Collection[int] | None = None
    trace: list[str] = field(factory=list)
    alive: list[Process] = field(factory=list)
    everyone: list[Process] = field(factory=list)
    apps: dict[Process, App] = field(factory=dict)
    strikes: int = 0
    schedule: Schedule = field(init=False)
    chance: Random = field(init=False)
    gone: Random = field(init=False)
    faults: Faults = field(init=False)
    ledger: Ledger = field(init=False)
    outside: Process = field(init=False)
    cancelled: set[str] = field(factory=set)
    _names: Iterator[int] = field(factory=count)
    _ended: asyncio.Event = field(factory=asyncio.Event)
    _senders: dict[tuple[str, int], asyncio.Task[None]] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.chance = Random(f"{self.seed} world")
        self.gone = Random(f"{self.seed} callers")
        self.schedule = Schedule(Random(f"{self.seed} schedule"), after_turn=self._trouble)
        self.faults = Faults(Random(f"{self.seed} faults"), self.without, note=self.note)
        self.ledger = Ledger(self.make_storage(), self.note, self._hook_opened)
        self.ledger.changed = self._ended.set
        self.outside = self.schedule.process("outside")

    def note(self, text: str) -> None:
        """Add to the trace."""
        self.trace.append(f"{self.schedule.now:9.4f} {text}")

    def run(self) -> Report:
        """Let it all happen, and say what was wrong."""
        try:
            self.schedule.run(self.outside, self._main(), LIMIT)
        except TimeoutError:
            for run_id in self.ledger.open_runs:
                self.ledger.problem(f"run {run_id} was forgotten: it is {self.ledger.statuses[run_id].value}")
            if not self.ledger.problems:
                self.ledger.problem("the clients wait for ever")
        if self.schedule.turns > MOST_TURNS:
            self.ledger.problem(f"somebody is busy without end: {self.schedule.turns} turns")
        for process in self.everyone:
            for complaint in process.complaints:
                self.ledger.problem(f"nobody heard in {process}: {complaint}")
        self._bury()
        digest = blake2b("\n".join(self.trace).encode(), digest_size=8).hexdigest()
        runs = len(self.ledger.histories)
        return Report(
            self.seed, self.ledger.problems, self.trace, self.faults.struck, runs, self.schedule.turns, digest
        )

    # -- the clients ---------------------------------------------------------------------------

    async def _main(self) -> None:
        for _ in range(self.chance.choice([2, 3, 3, 4])):
            self._spawn()
        self.outside.call_later(CALM, self._calm)
        numbers = range(self.chance.randint(2, MOST_RUNS))
        clients = [self._client(n) for n in numbers if self.only is None or n in self.only]
        if self.only is None and self.gone.random() < 0.5:
            clients.append(self._client(MOST_RUNS, begin=self.gone.uniform(CALM, CALM + 5)))
        await asyncio.gather(*clients)
        before: dict[str, Status] = {}
        while before != self.ledger.statuses:
            while self.ledger.open_runs:
                self._ended.clear()
                await self._ended.wait()
            self.faults.active = False
            before = dict(self.ledger.statuses)  # who was frozen, or waits for an answer, may still want something
            held = max((process.stopped_until - self.schedule.now for process in self.alive), default=0.0)
            await asyncio.sleep(2 * _LONGEST + max(0.0, held))
        for process in list(self.alive):
            await self.ask(lambda app: app.close(), process)
        self._look_at_ends()
        await self.ledger.review(tree.body, self.chance)

    async def _client(self, number: int, begin: float = 0.0) -> None:
        """Start a run, and perhaps cancel it; if it begins late, no process ends any more and leaves it to another."""
        chance, name = Random(f"{self.seed} run {number}"), f"r{number}"
        parts, times = random_tree(chance), chance.choice([0, 0, 0, 0, 1, 2])
        arguments = (name, parts, times, chance.random() < 0.15)
        stops = chance.choice([None, None, None, chance.uniform(0, 20)])
        grace = chance.choice([None, None, timedelta(seconds=chance.uniform(0, 10))])
        await asyncio.sleep(begin or chance.uniform(0, 10))
        self.note(f"client starts {name}: {arguments}")
        await self.insist(lambda app: app.start(tree, arguments, run_id=name, idempotency_key=f"key-{name}"))
        if stops is not None:
            await asyncio.sleep(stops)
            self.note(f"client cancels {name}")
            await self.insist(lambda app: _recorded(app).cancel(name, "enough", grace), RunEnded)

    def _hook_opened(self, hook: Hook) -> None:
        key = hook.run_id, hook.op
        if key not in self._senders:
            self._senders[key] = self.outside.create_task(self._send(hook))

    async def _send(self, hook: Hook) -> None:
        """Send a hook its payload, some time after it was opened."""
        await asyncio.sleep(Random(f"{self.seed} {hook.name}").uniform(0, 4))
        await self.insist(lambda app: app.resume_hook(hook.name, f"to {hook.name}"), HookClosed)

    async def insist(self, act: Callable[[App], Coroutine[Any, Any, Any]], *answers: type[Exception]) -> None:
        """Have some process do something, again and again until it has been done, or *answers* says that it was.

        Some callers go away first: what they began is cancelled at one of its awaits.
        """
        if self.gone.random() < 0.3:
            number = self.gone.randint(1, 6)
            await self.ask(lambda app: CancelledAt(act(app), number).result())
        while True:
            outcome = await self.ask(act)
            if isinstance(outcome, BaseException) and not isinstance(outcome, answers):
                if not isinstance(outcome, StorageError | _Lost | asyncio.CancelledError):
                    self.ledger.problem(f"a client was told {outcome!r}")
                    return
                await asyncio.sleep(0.5)
                continue
            return

    async def ask(self, act: Callable[[App], Coroutine[Any, Any, Any]], process: Process | None = None) -> Any:
        """Have a process do something; return what came of it, an exception too."""
        while process is None:
            if self.alive:
                process = self.chance.choice(self.alive)
            else:
                await asyncio.sleep(0.5)
        if process.killed:
            return _Lost()
        told: asyncio.Future[Any] = self.outside.create_future()

        def tell(outcome: Any) -> None:
            self.outside.call_soon(_settle, told, outcome)

        async def there() -> None:
            try:
                tell(await act(self.apps[process]))
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 -- the client hears of it
                tell(error)

        process.on_kill.append(lambda: tell(_Lost()))
        process.create_task(there())
        return await told

    # -- processes, and what happens to them -----------------------------------------------------

    def _spawn(self) -> None:
        process = self.schedule.process(f"p{next(self._names)}", self.chance.choice([0, 0, -2, 3, 60]))
        app = copy.copy(_template())
        app.engine_loop = EngineLoop(app._close_here, app._is_idle, app._leave)
        runtime = SimulatedRuntime(app, self.faults)
        app.clock, app._opened, app._runtimes = VirtualClock(process), True, {"local": runtime}
        app._storage = FaultyStorage(self.ledger, self.faults, lambda: self._pause(process), lambda: process.killed)
        process.begins = lambda step: self.ledger.begins(worker.name if (worker := runtime.worker_here) else None, step)
        app.observer = lambda: self._observer(runtime)  # type: ignore[method-assign]
        self.apps[process] = app
        self.alive.append(process)
        self.everyone.append(process)
        self.note(f"{process} begins")
        self.outside.create_task(self._work(process))

    def _observer(self, runtime: SimulatedRuntime) -> Listener:
        """Return what keeps the states of machines, to be compared with those of replay."""

        def observe(run: Run, _: Sequence[Event]) -> None:
            worker = runtime.worker_here
            held = None if worker is None else worker.advancer.runs.get(run.id)
            if held is not None and held.length == run.length:  # else a dispatched step was written
                state = state_of(held.machine)
                if state["events"] == run.length:  # else the next decision is being written
                    self.ledger.states[run.id, run.length] = state

        return observe

    async def _work(self, process: Process) -> None:
        while isinstance(await self.ask(lambda app: _recorded(app).work(), process), StorageError):
            await asyncio.sleep(0.1)

    async def _pause(self, process: Process) -> None:
        roll = self.chance.random()
        if roll < 0.5:
            return
        await asyncio.sleep(0 if roll < 0.7 else self.chance.expovariate(500 if roll < 0.97 else 1))
        if roll > 0.99:
            self._kill(process)

    def _trouble(self, process: Process) -> None:
        if process is self.outside or not self.faults.active or self.faults.chance.random() > _HAZARD:
            return
        chance, seconds = self.faults.chance, self.faults.chance.expovariate(1 / 3)
        what = chance.choice(["kill", "kill", "close", "freeze", "block", "jump"])
        if what == "kill":
            self._kill(process)
        elif not self._may(f"{what} {process}, {seconds:.3f} s"):
            return
        elif what == "close":
            self._retire(process)
        elif what == "jump":
            process.offset += chance.choice([-90, -5, 5, 90])
        else:
            process.hold(seconds, frozen=what == "freeze")

    def _may(self, what: str) -> bool:
        if not self.faults.active or self.strikes >= self.faults.most:
            return False
        self.strikes += 1
        return self.faults.strike(what)

    def _kill(self, process: Process) -> None:
        if not process.killed and self._may(f"kill {process}"):
            self._leave(process)
            process.kill()

    def _retire(self, process: Process) -> None:
        """Tell a process to close, as SIGTERM does; it exits when it has."""
        if process in self.alive:
            self._leave(process)
            grace = self.faults.chance.choice([0.0, 0.0, 2.0])
            closing = process.create_task(self.apps[process].close(grace))
            closing.add_done_callback(lambda _: self._exit(process))

    def _exit(self, process: Process) -> None:
        if not process.killed:
            process.kill()

    def _leave(self, process: Process) -> None:
        if process in self.alive:
            self.alive.remove(process)
            self.outside.call_later(self.chance.uniform(0.1, 3), self._spawn)

    def _calm(self) -> None:
        self.faults.active = False
        self.note("calm")

    # -- when all is over ----------------------------------------------------------------------------

    def _look_at_ends(self) -> None:
        for run_id, history in self.ledger.histories.items():
            started, last, status = history[0], history[-1], self.ledger.statuses[run_id]
            assert isinstance(started, RunStarted)
            name, parts, _, fails = [*started.args, 0, False][:4] if len(started.args) == 2 else started.args
            asked_to_stop = any(isinstance(event, CancelRequested) for event in history)
            if isinstance(last, RunCompleted):
                if fails or not fits(parts, name, last.value):
                    self.ledger.problem(f"{run_id} came to {last.value}")
            elif isinstance(last, RunFailed):
                if not fails or last.error.type != f"{Broken.__module__}:{Broken.__qualname__}":
                    self.ledger.problem(f"{run_id} failed: {last.error.type}: {last.error.message}")
            elif status is not Status.CONTINUED and not asked_to_stop:
                self.ledger.problem(f"{run_id} is {status.value}, and nobody asked it to stop")

    def _bury(self) -> None:
        for process in [*self.everyone, self.outside]:
            process.killed = True
            worker = None if process is self.outside else self.apps[process].recorded().worker_here  # type: ignore[attr-defined]
            if worker is not None:
                for held in worker.advancer.runs.values():
                    held.machine.close()
                worker.advancer.kept.clear()
            process.bury()


class _Lost(Exception):
    """The process that was asked is no more."""


def _settle(told: asyncio.Future[Any], outcome: Any) -> None:
    if not told.done():
        told.set_result(outcome)


def _recorded(app: App) -> DurableRuntime:
    return app.recorded()


_made: list[App] = []


def _template() -> App:
    if not _made:
        app = App(storage=MemoryStorage(), default_runtime="local", default_durable=True)
        app._prepare()
        _made.append(app)
    return _made[0]
