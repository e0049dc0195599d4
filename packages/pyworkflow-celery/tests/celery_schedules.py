"""A workflow with a schedule, in a module that only workers import, as who imports it keeps the schedule."""

from __future__ import annotations

from pyworkflow import workflow


@workflow(name="faults.daily", schedule="0 9 * * *")
async def daily() -> str:
    return "done"
