"""The jobs that this process holds, with the states of their runs, so that appending under a lease reads nothing."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from attrs import define, evolve, field, frozen

from pyworkflow.model import RUN_OP, Lease
from pyworkflow_aws.dynamodb.keys import shard_of
from pyworkflow_aws.dynamodb.reading import State

_TURNS = 251


@frozen
class Hold:
    """A job that is held here; *state*: its run, if it is job 0."""

    worker: str
    epoch: int
    state: State | None = None


@define
class Holds:
    """The jobs held by the workers of this process. All methods may be called from any thread."""

    _jobs: dict[tuple[str, int], Hold] = field(factory=dict)
    _alive: dict[str, float] = field(factory=dict)
    _until: dict[str, int] = field(factory=dict)
    _listed: set[str] = field(factory=set)
    _taking: Counter[str] = field(factory=Counter)
    prolonging: threading.RLock = field(factory=threading.RLock)
    """Held while it is decided whether a lease is listed, and while it is written."""
    _guard: threading.Lock = field(factory=threading.Lock)
    _turns: list[threading.Lock] = field(factory=lambda: [threading.Lock() for _ in range(_TURNS)])

    @contextmanager
    def turn(self, run_ids: Iterable[str]) -> Iterator[None]:
        """Wait until no other thread of this process changes these runs, which would make both try again."""
        with ExitStack() as turns:
            for number in sorted({shard_of(run_id, _TURNS) for run_id in run_ids}):  # in one order, for all of them
                turns.enter_context(self._turns[number])
            yield

    def add(self, lease: Lease, state: State | None) -> None:
        """Note that a job is held here."""
        with self._guard:
            kept = state if lease.op == RUN_OP else None
            self._jobs[lease.run_id, lease.op] = Hold(lease.worker, lease.epoch, kept)

    def of(self, lease: Lease | None) -> Hold | None:
        """Return what is known of a job under *lease*, unless that may have lapsed."""
        if lease is None:
            return None
        with self._guard:
            hold = self._jobs.get((lease.run_id, lease.op))
            if hold is None or (hold.worker, hold.epoch) != (lease.worker, lease.epoch):
                return None
            return hold if time.monotonic() < self._alive.get(lease.worker, 0.0) else None

    def update(self, run_id: str, state: State) -> None:
        """Note the state of a run; it may be held by another worker by now."""
        job = state.head.job
        with self._guard:
            hold = self._jobs.get((run_id, RUN_OP))
            if hold is None:
                return
            if job is None or (job.worker, job.epoch) != (hold.worker, hold.epoch):
                del self._jobs[run_id, RUN_OP]
            else:
                self._jobs[run_id, RUN_OP] = evolve(hold, state=state)

    def drop(self, run_id: str, op: int) -> None:
        """Note that a job is not held here any more."""
        with self._guard:
            self._jobs.pop((run_id, op), None)

    def held(self, run_id: str, op: int, worker: str, epoch: int) -> bool:
        """Whether a job is held here by a worker since its claim number *epoch*."""
        with self._guard:
            hold = self._jobs.get((run_id, op))
            return hold is not None and (hold.worker, hold.epoch) == (worker, epoch)

    def jobs(self, worker: str) -> dict[tuple[str, int], int]:
        """Return the jobs of a worker, with their epochs."""
        with self._guard:
            return {key: hold.epoch for key, hold in self._jobs.items() if hold.worker == worker}

    def touched(self, worker: str) -> set[tuple[str, int]]:
        """Return the jobs of a worker under which it has written since their items were."""
        with self._guard:
            return {
                key
                for key, hold in self._jobs.items()
                if hold.worker == worker and hold.state is not None and hold.state.slot > hold.state.head.slot
            }

    # -- leases --------------------------------------------------------------------------

    @contextmanager
    def taking(self, workers: Iterable[str]) -> Iterator[None]:
        """Keep these workers listed meanwhile, and for good if this fails: they may hold something then."""
        with self._guard:
            self._taking.update(workers := list(workers))
        yield
        with self._guard:
            self._taking.subtract(workers)

    def may_hold(self, worker: str) -> bool:
        """Whether a worker holds something, or is about to."""
        with self._guard:
            return self._taking[worker] > 0 or any(hold.worker == worker for hold in self._jobs.values())

    def unlisted(self, worker: str) -> None:
        """Note that the lease of a worker may not be in the index any more."""
        with self._guard:
            self._listed.discard(worker)

    def prolonged(self, worker: str, until: int, seconds: float, *, listed: bool) -> None:
        """Note that a lease was written: until when, for how long from now on, and whether it is in the index."""
        with self._guard:
            self._until[worker] = until
            self._alive[worker] = time.monotonic() + seconds
            if listed:
                self._listed.add(worker)

    def lease(self, worker: str) -> tuple[int | None, bool]:
        """Return until when the lease of a worker is, if that is known, and whether it is in the index."""
        with self._guard:
            alive = time.monotonic() < self._alive.get(worker, 0.0)  # else others may have forgotten it
            return self._until.get(worker), alive and worker in self._listed

    def left(self, worker: str) -> None:
        """Forget a worker and all it held."""
        with self._guard:
            self._jobs = {key: hold for key, hold in self._jobs.items() if hold.worker != worker}
            self._alive.pop(worker, None)
            self._until.pop(worker, None)
            self._taking.pop(worker, None)
            self._listed.discard(worker)
