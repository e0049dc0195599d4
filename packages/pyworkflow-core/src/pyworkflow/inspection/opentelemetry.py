"""Runs as OpenTelemetry traces: the plugin ``opentelemetry``, for ``configure(plugins=["opentelemetry"])``.

A trace is made of a run's history once it has ended, in the process that wrote the end, so it is whole whatever
processes worked on the run: a span for the run, one for each operation, and one for each attempt of a step, at their
true times. The ids follow from the run's id, so a trace that two processes make is one. Arguments and results are not
part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from pyworkflow.errors import ExtraMissing
from pyworkflow.events import (
    ErrorRecord,
    Event,
    Failed,
    RunFailed,
)
from pyworkflow.inspection.explain import error_text
from pyworkflow.inspection.operations import Attempt, Operation, Outcome, fold
from pyworkflow.model import Run
from pyworkflow.ports import hookimpl
from pyworkflow.replay.history import effective

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.trace import Span, Tracer

_TRACE, _SPAN = 16, 8
"""The bytes of an id (W3C Trace Context)."""

_next: ContextVar[tuple[int, int] | None] = ContextVar("pyworkflow_span", default=None)


@hookimpl
def pyworkflow_ended(run: Run, history: Sequence[Event]) -> None:
    """Emit the trace of a run that ended."""
    from opentelemetry.trace import get_tracer, set_span_in_context

    events = effective(history)
    first, last = events[0], events[-1]
    tracer = _with_our_ids(get_tracer("pyworkflow"))
    links = [] if run.parent is None else [_link(run.parent)]
    about: dict[str, Any] = {
        "pyworkflow.run_id": run.id,
        "pyworkflow.workflow": run.workflow,
        "pyworkflow.status": run.status.value,
    }
    about |= {f"pyworkflow.attribute.{name}": value for name, value in run.attributes.items()}
    with _ids(run.id, ""):
        root = tracer.start_span(run.workflow, start_time=_nanos(first.at), attributes=about, links=links)
    within = set_span_in_context(root)
    for operation in fold(events).operations.values():
        _emit(operation, tracer, run.id, within, last.at)
    _fail(root, last.error if isinstance(last, RunFailed) else None)
    root.end(_nanos(last.at))


def _emit(operation: Operation, tracer: Tracer, run_id: str, within: Any, last: datetime) -> None:
    """Emit the span of an operation and those of its attempts; what is open ends at *last*."""
    from opentelemetry.trace import set_span_in_context

    command, answer = operation.command, operation.answer
    about: dict[str, Any] = {"pyworkflow.operation": command.op, "pyworkflow.kind": command.kind}
    with _ids(run_id, str(command.op)):
        span = tracer.start_span(command.name, within, start_time=_nanos(operation.at), attributes=about)
    for one in operation.attempts:
        numbered = {"pyworkflow.attempt": one.number}
        with _ids(run_id, f"{command.op}/{one.number}"):
            attempt = tracer.start_span(
                f"{command.name} #{one.number}",
                set_span_in_context(span),
                start_time=_nanos(one.start),
                attributes=numbered,
            )
        _fail_with(attempt, _error_of(one))
        attempt.end(_nanos(max(one.start, one.end or last)))
    _fail(span, answer.error if isinstance(answer, Failed) else None)
    end = operation.abandoned or (last if answer is None else answer.at)
    span.end(_nanos(max(operation.at, end)))


def _error_of(attempt: Attempt) -> str | None:
    if attempt.outcome is Outcome.LOST:
        return "its worker was lost"
    return None if attempt.error is None else error_text(attempt.error)


def _fail(span: Span, record: ErrorRecord | None) -> None:
    _fail_with(span, None if record is None else error_text(record))


def _fail_with(span: Span, error: str | None) -> None:
    from opentelemetry.trace import StatusCode

    if error is not None:
        span.set_status(StatusCode.ERROR, error)


def _nanos(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000) * 1000


# -- ids that follow from the run --------------------------------------------------------


def trace_id(run_id: str) -> int:
    """Return the id of the trace of a run."""
    return int.from_bytes(blake2b(run_id.encode(), digest_size=_TRACE).digest(), "big") or 1


def _span_id(run_id: str, what: str) -> int:
    return int.from_bytes(blake2b(f"{run_id}/{what}".encode(), digest_size=_SPAN).digest(), "big") or 1


def _link(run_id: str) -> Any:
    from opentelemetry.trace import Link, SpanContext, TraceFlags

    flags = TraceFlags(TraceFlags.SAMPLED)
    return Link(SpanContext(trace_id(run_id), _span_id(run_id, ""), is_remote=True, trace_flags=flags))


@contextmanager
def _ids(run_id: str, what: str) -> Iterator[None]:
    token = _next.set((trace_id(run_id), _span_id(run_id, what)))
    try:
        yield
    finally:
        _next.reset(token)


class _Ids:
    """Gives the ids that were set beforehand; what the SDK calls an id generator."""

    def __init__(self, other: Any) -> None:
        self._other = other

    def generate_trace_id(self) -> int:
        chosen = _next.get()
        return self._other.generate_trace_id() if chosen is None else chosen[0]

    def generate_span_id(self) -> int:
        chosen = _next.get()
        return self._other.generate_span_id() if chosen is None else chosen[1]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._other, name)


def _with_our_ids(tracer: Tracer) -> Tracer:
    # Each tracer of the SDK has a generator of its own; the API's tracers, which record nothing, have none.
    generator = getattr(tracer, "id_generator", None)
    if generator is not None and not isinstance(generator, _Ids):
        tracer.id_generator = _Ids(generator)  # type: ignore[attr-defined]  # of the SDK's
    return tracer


try:
    import opentelemetry.trace  # noqa: F401 -- only whether it is there; the plugin is loaded when it is named
except ModuleNotFoundError as error:
    msg = "the plugin 'opentelemetry' needs 'opentelemetry-api': install pyworkflow-core with its extra 'otel'"
    raise ExtraMissing(msg) from error
