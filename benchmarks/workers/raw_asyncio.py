"""The limit of F: as many plain asyncio tasks that sleep until they are due."""

import asyncio
import sys
import time

from measure import emit


async def main(count: int) -> None:
    """Let *count* tasks, due within one second, go on."""
    woken: list[float] = []
    first_due = time.time() + 1.0

    async def sleeper(due: float) -> None:
        await asyncio.sleep(due - time.time())
        woken.append(time.time())

    await asyncio.gather(*(sleeper(first_due + number / count) for number in range(count)))
    emit(gone_on_after_s=max(woken) - min(woken))


asyncio.run(main(int(sys.argv[1])))
