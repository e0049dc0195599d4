"""C: a transient step against a plain await of the same function, in one process and by turns.

Many short turns, and the least of each: that is what the code takes where nobody else is on the processor.
"""

import asyncio
import time

from measure import emit

import pyworkflow

CALLS = 200
TURNS = 400


async def plain(number: int) -> int:
    return number + 1


@pyworkflow.step
async def bare(number: int) -> int:
    return number + 1


@pyworkflow.step(retries=5, retry_delay="1s", timeout="30s")
async def guarded(number: int) -> int:
    return number + 1


async def time_of(function) -> float:  # noqa: ANN001 -- a step or a plain function
    number = 0
    started = time.perf_counter()
    for _ in range(CALLS):
        number = await function(number)
    assert number == CALLS
    return 1e6 * (time.perf_counter() - started) / CALLS


@pyworkflow.workflow(durable=False)
async def compare() -> dict[str, float]:
    seen: dict[str, list[float]] = {"plain": [], "bare": [], "guarded": []}
    for _ in range(TURNS):
        for name, function in (("plain", plain), ("bare", bare), ("guarded", guarded)):
            seen[name].append(await time_of(function))
    return {name: min(times) for name, times in seen.items()}


figures = asyncio.run(compare())
emit(
    plain_us=figures["plain"],
    over_plain_us=figures["bare"] - figures["plain"],
    guarded_over_plain_us=figures["guarded"] - figures["plain"],
)
