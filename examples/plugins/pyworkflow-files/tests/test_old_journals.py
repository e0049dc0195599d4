"""Journals that 0.1.0 wrote are read, and added to."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from zlib import crc32

import pytest

from pyworkflow.errors import LeaseLost
from pyworkflow.events import Completed, RunStarted
from pyworkflow.model import RUN_OP, Append, Job, Lease, Run, StepCall
from pyworkflow_files import FileStorage

pytestmark = pytest.mark.asyncio
NOW = datetime(2026, 1, 1, tzinfo=UTC)
TIME = "2026-01-01T00:00:00+00:00"
CALL = ["charge", [1], {"to": "a"}, 2]
STARTED = {"at": TIME, "workflow": "flow", "args": [], "kwargs": {}, "seed": "", "type": "run_started"}
RECORDS = [
    {"form": "pyworkflow-files", "layout": 1},
    [
        ["run", "r", "flow", TIME, "running", 0, None, None, None, {}],
        ["events", "r", 1, json.dumps({"spec": 1, "events": [STARTED]})],
        ["job", "r", 0, None, "flow", "", None, None, 0, False, 0, ""],
        ["job", "r", 1, TIME, "flow", "", CALL, None, 0, False, 0, ""],
        ["job", "r", 2, TIME, "flow", "gpu", CALL, None, 0, False, 0, ""],
    ],
    [["job", "r", 1, None, "flow", "", CALL, "w", 1, False, 0, ""], ["lease", "w", "2026-01-01T00:00:10+00:00"]],
    [["job", "r", 1, None, "flow", "", CALL, "w", 1, False, 0, "woken"]],
]
"""A run with one step that worker w holds, and another step that is free."""


def line(value):
    text = json.dumps(value, separators=(",", ":")).encode()
    return b"%08x %s\n" % (crc32(text), text)


@pytest.mark.parametrize("compact", [1 << 24, 1], ids=["as it was", "written again"])
async def test_a_journal_of_0_1_0_goes_on(tmp_path, compact):
    call, lease = StepCall("charge", [1], {"to": "a"}, 2), timedelta(seconds=10)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "journal").write_bytes(b"".join(map(line, RECORDS)))
    storage = FileStorage(tmp_path / "runs", compact=compact)
    await storage.open()
    assert await storage.load("r") == (Run("r", "flow", NOW, length=1), [RunStarted(NOW, "flow", [], {}, "")])
    assert storage.renew("w", NOW, lease) == [("r", 1)]
    assert await storage.claim("w2", NOW, lease, 9, queues=["", "gpu"]) == [
        Lease("r", 2, "w2", 1, "flow", "gpu", call, length=1)
    ]
    held = Lease("r", 1, "w", 1, "flow", "", call)
    assert await storage.append(Append("r", [Completed(NOW, 1, 1)], [Job("r", RUN_OP, NOW)], lease=held)) == 2
    (other,) = await storage.claim("w3", NOW, lease, 9)
    assert (other.op, other.workflow) == (RUN_OP, "flow")
    (recovered,) = await storage.claim("w3", NOW + lease, lease, 1)
    assert recovered == Lease("r", 1, "w3", 2, "flow", "", call, lapsed=True, recoveries=1, length=2)
    with pytest.raises(LeaseLost):
        await storage.append(Append("r", [], lease=held))
    await storage.close()
