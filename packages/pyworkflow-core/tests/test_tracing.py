"""Traces: made whole of a history, whatever processes worked on the run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from pyworkflow import App, current_step, sleep, step, workflow
from pyworkflow.backends.memory import MemoryStorage
from pyworkflow.inspection.opentelemetry import trace_id
from pyworkflow.testing import WorkflowEnvironment

pytestmark = pytest.mark.asyncio

exporter = InMemorySpanExporter()
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module", autouse=True)
def provider() -> Iterator[None]:
    made = TracerProvider()
    made.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(made)
    yield
    made.shutdown()


@pytest.fixture(autouse=True)
def no_spans() -> None:
    exporter.clear()


@step(name="trace.flaky", retries=2, retry_delay="10s")
async def flaky() -> int:
    if current_step().attempt < 2:
        raise OSError("no route")
    return current_step().attempt


@workflow(name="trace.child")
async def child() -> None:
    await sleep("1m")


@workflow(name="trace.flow")
async def flow() -> int:
    await child()
    return await flaky()


@workflow(name="trace.fails")
async def fails() -> None:
    raise LookupError("no order")


def spans() -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


async def traced(env: WorkflowEnvironment, workflow_: Any) -> str:
    async with env:
        handle = await env.app.start(workflow_)
        with suppress(LookupError):
            await env.result(handle)
    return handle.id


def an_env() -> WorkflowEnvironment:
    return WorkflowEnvironment(start=START, plugins=["opentelemetry"])


async def test_a_run_is_a_trace_with_a_span_for_each_operation_and_attempt() -> None:
    run_id = await traced(an_env(), flow)
    found = spans()
    assert set(found) == {"trace.flow", "trace.child", "trace.flaky", "trace.flaky #1", "trace.flaky #2", "sleep"}
    mine = [span for span in exporter.get_finished_spans() if span.context.trace_id == trace_id(run_id)]
    assert sorted(span.name for span in mine) == [
        "trace.child", "trace.flaky", "trace.flaky #1", "trace.flaky #2", "trace.flow",
    ]  # fmt: skip


async def test_spans_are_nested_and_at_their_true_times() -> None:
    await traced(an_env(), flow)
    found = spans()
    root, operation, second = found["trace.flow"], found["trace.flaky"], found["trace.flaky #2"]
    assert root.parent is None
    assert operation.parent.span_id == root.context.span_id
    assert second.parent.span_id == operation.context.span_id
    assert root.start_time == int(START.timestamp()) * 10**9
    assert root.end_time - root.start_time == 70 * 10**9
    assert second.start_time - found["trace.flaky #1"].start_time == 10 * 10**9


async def test_what_failed_says_so_and_arguments_are_not_part_of_it() -> None:
    await traced(an_env(), flow)
    first = spans()["trace.flaky #1"]
    assert (first.status.status_code, first.status.description) == (StatusCode.ERROR, "OSError: no route")
    assert spans()["trace.flaky"].status.status_code is StatusCode.UNSET


async def test_a_failed_run_is_a_failed_span() -> None:
    await traced(an_env(), fails)
    root = spans()["trace.fails"]
    assert root.status.description == "LookupError: no order"
    assert root.attributes["pyworkflow.status"] == "failed"


async def test_a_child_is_linked_to_its_parent() -> None:
    run_id = await traced(an_env(), flow)
    (root,) = [span for span in exporter.get_finished_spans() if span.name == "trace.child" and span.parent is None]
    assert [link.context.trace_id for link in root.links] == [trace_id(run_id)]


async def test_a_run_that_two_processes_worked_on_is_one_trace() -> None:
    env = an_env()
    async with env:
        handle = await env.start(flow)
        await env.crash()
        await env.result(handle)
    mine = [span for span in exporter.get_finished_spans() if span.context.trace_id == trace_id(handle.id)]
    assert len(mine) == len({span.context.span_id for span in mine}) == 5


async def test_being_installed_alone_traces_nothing() -> None:
    async with App(storage=MemoryStorage(), default_durable=True) as app:
        with pytest.raises(LookupError):
            await app.call(fails)
    assert spans() == {}
