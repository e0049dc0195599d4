"""The lease protocol by breadth-first model checking: every state that three workers can get into, not a sample.

A worker claims the run, which raises the epoch; loads what is recorded; records the step it begins; carries it out; and
records its result together with the request of the next one. All that it records is refused if its epoch is not the
newest one: the fence. A worker may be killed anywhere, may hand the run back anywhere, and its lease may lapse while it
still works (a pause, a clock that is wrong).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from attrs import evolve, frozen

Worker = tuple[int, str, int]
"""The epoch it works under, what it does next, and at which step."""


@frozen
class Model:
    """How large it is, and whether there is a fence."""

    steps: int = 3
    workers: int = 3
    crashes: int = 2
    expiries: int = 2
    returns: int = 1
    fence: bool = True


@frozen
class State:
    """The storage, the workers (alike, so in order), and the faults that may still happen."""

    results: tuple[int, ...]
    ends: int
    epoch: int
    leased: bool
    workers: tuple[Worker, ...]
    crashes: int
    expiries: int
    returns: int
    wrong: frozenset[str] = frozenset()


@frozen
class Checked:
    """What was found: how many states, those of them that can never end, and for each wrong the shortest way to it."""

    states: int
    stuck: int
    wrong: dict[str, list[str]]


Move = tuple[str, bool, State]
"""What happens, whether it is a fault, and what comes of it."""


def moves(model: Model, state: State) -> Iterator[Move]:
    """Yield all that may happen next."""
    holders = [worker for worker in state.workers if worker[0] == state.epoch]
    if not state.leased and not state.ends and len(state.workers) < model.workers:
        epoch = state.epoch + 1
        yield f"claim, epoch {epoch}", False, _with(evolve(state, epoch=epoch, leased=True), None, (epoch, "load", 0))
    if state.leased and not holders:
        yield "the lease of a lost worker lapses", False, evolve(state, leased=False)
    elif state.leased and state.expiries:
        yield "the lease lapses early", True, evolve(state, leased=False, expiries=state.expiries - 1)
    for worker in state.workers:
        who = f"worker of epoch {worker[0]}"
        if state.crashes:
            yield f"{who} is killed", True, _with(evolve(state, crashes=state.crashes - 1), worker, None)
        if state.returns:
            held = state.leased and worker[0] != state.epoch
            back = evolve(state, returns=state.returns - 1, leased=held)
            yield f"{who} hands back", True, _with(back, worker, None)
        yield who + ": " + worker[1], False, act(model, state, worker)


def act(model: Model, state: State, worker: Worker) -> State:
    """Return what comes of a worker's next action."""
    epoch, does, step = worker
    refused = model.fence and epoch != state.epoch  # a lapsed lease that nobody has taken still counts
    match does:
        case "load":
            first = next((n for n, count in enumerate(state.results) if not count), model.steps)
            return _with(state, worker, (epoch, "end" if first == model.steps else "ask", first))
        case "run":
            wrong = state.wrong
            if state.results[step] and epoch == state.epoch and state.leased:
                wrong |= {"a holder begins a step whose result is recorded"}
            return _with(evolve(state, wrong=wrong), worker, (epoch, "write", step))
        case _ if refused or (does == "end" and state.ends and model.fence):
            return _with(state, worker, None)
        case "ask":
            return _with(state, worker, (epoch, "run", step))
        case "write":
            results = (*state.results[:step], state.results[step] + 1, *state.results[step + 1 :])
            wrong = state.wrong | ({"a result is recorded twice"} if results[step] > 1 else set())
            results = tuple(min(count, 2) for count in results)
            nothing_left = step + 1 == model.steps
            after = (epoch, "end", 0) if nothing_left else (epoch, "run", step + 1)
            return _with(evolve(state, results=results, wrong=wrong), worker, after)
        case _:
            wrong = state.wrong | ({"a run ends twice"} if state.ends else set())
            return _with(evolve(state, ends=1, leased=False, wrong=wrong), worker, None)


def _with(state: State, old: Worker | None, new: Worker | None) -> State:
    workers = list(state.workers)
    if old is not None:
        workers.remove(old)
    if new is not None:
        workers.append(new)
    return evolve(state, workers=tuple(sorted(workers)))


def check(model: Model, moves: Callable[[Model, State], Iterator[Move]] = moves) -> Checked:
    """Visit every state there is, the nearest first."""
    first = State((0,) * model.steps, 0, 0, False, (), model.crashes, model.expiries, model.returns)
    came: dict[State, tuple[State, str] | None] = {first: None}
    before: dict[State, list[State]] = {}
    wrong: dict[str, list[str]] = {}
    queue = deque([first])
    while queue:
        state = queue.popleft()
        for what in state.wrong - wrong.keys():
            wrong[what] = _way(came, state)
        for name, is_fault, following in moves(model, state):
            if following not in came:
                came[following] = state, name
                queue.append(following)
            if not is_fault:
                before.setdefault(following, []).append(state)
    ending = {state for state in came if state.ends}
    queue = deque(ending)
    while queue:
        for state in before.get(queue.popleft(), ()):
            if state not in ending:
                ending.add(state)
                queue.append(state)
    return Checked(len(came), len(came) - len(ending), wrong)


def _way(came: dict[State, tuple[State, str] | None], state: State) -> list[str]:
    way = []
    while (step := came[state]) is not None:
        state, name = step
        way.append(name)
    return way[::-1]


def test_with_the_fence_nothing_is_wrong_in_any_state_and_every_state_can_end() -> None:
    checked = check(Model())
    assert checked.wrong == {}
    assert checked.stuck == 0
    assert checked.states > 10_000


def test_without_the_fence_results_and_ends_are_recorded_twice() -> None:
    checked = check(Model(steps=2, workers=2, crashes=1, expiries=1, fence=False))
    assert checked.wrong.keys() >= {"a result is recorded twice", "a run ends twice"}
    way = checked.wrong["a result is recorded twice"]
    assert "the lease lapses early" in way, way
    assert not [what for what in way if "killed" in what], "nobody has to die for it"


def test_a_crash_alone_does_no_harm_without_the_fence_so_tests_with_kill_cannot_show_the_need_of_it() -> None:
    assert check(Model(fence=False, expiries=0, returns=0)).wrong == {}


def test_the_checker_sees_a_protocol_that_forgets_runs() -> None:
    def forgetful(model: Model, state: State) -> Iterator[Move]:
        return (move for move in moves(model, state) if move[0] != "the lease of a lost worker lapses")

    assert check(Model(steps=2, workers=2), forgetful).stuck > 0
