"""A process that adds to a run for ever, and says after each transaction that it is acknowledged.

Usage: writer.py FOLDER
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime

from pyworkflow.events import Completed, RunStarted
from pyworkflow.model import Append, Run
from pyworkflow_files import FileStorage

NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def main(folder: str) -> None:
    storage = FileStorage(folder, compact=20_000)
    await storage.open()
    run = Run("r", "flow", NOW, length=1)
    existing = await storage.create(run, [RunStarted(NOW, "flow", [], {}, "seed")], [])
    length = (existing or run).length
    while True:
        length = await storage.append(Append("r", [Completed(NOW, length, "x" * 100)], expected=length))
        print(length, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
