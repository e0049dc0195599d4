"""The hooks by which a plugin offers backends, settings and commands, or listens to events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pyworkflow.events import Event
from pyworkflow.model import Run
from pyworkflow.ports import RetryPolicy, RuntimeOffer, Storage, hookspec

if TYPE_CHECKING:
    from cattrs import Converter


@hookspec
def pyworkflow_storages() -> Mapping[str, Callable[..., Storage]]:  # type: ignore[empty-body]
    """Offer storages: name to factory.

    Called when a storage is asked for by a config string. The factory is called with ``place`` (what stands after
    ``name://``) and the options as keyword arguments; their annotations say how the options are read. One that has a
    parameter ``app`` is given the `App`, for its settings. Import the driver inside the factory.
    """


@hookspec
def pyworkflow_runtimes() -> Mapping[str, RuntimeOffer]:  # type: ignore[empty-body]
    """Offer runtimes: name to `RuntimeOffer`.

    Called when a runtime is named by a decorator or a setting. Import the driver inside the offer's factory.
    """


@hookspec
def pyworkflow_retry_policies() -> Mapping[str, Callable[..., RetryPolicy]]:  # type: ignore[empty-body]
    """Offer retry policies: name to factory, called with the options of the config string as keyword arguments."""


@hookspec
def pyworkflow_settings() -> Mapping[str, type]:  # type: ignore[empty-body]
    """Offer settings: a prefix to a frozen attrs class whose fields are the keys after the prefix.

    ``{"acme": AcmeSettings}`` lets users say ``configure(acme_url=…)``, ``PYWORKFLOW_ACME_URL`` and ``acme_url`` in
    ``[tool.pyworkflow]``.
    """


@hookspec
def pyworkflow_converter(converter: Converter) -> None:
    """Teach *converter* (cattrs) more types for arguments and results. Called once for each `App`, at its first use."""


@hookspec
def pyworkflow_event(run: Run, event: Event) -> None:
    """Look at *event*, which is now part of the history of *run*.

    Called in the process that wrote it, after it is durable, in the order of history. Must not block. An exception is
    logged and changes nothing.
    """


@hookspec
def pyworkflow_ended(run: Run, history: Sequence[Event]) -> None:
    """Look at the whole *history* of *run*, which has ended.

    Called in the process that wrote the end, after it is durable, once at most. Must not block. An exception is logged
    and changes nothing.
    """


@hookspec
def pyworkflow_commands(cli: Any) -> None:
    """Add commands to *cli*, a `click.Group`. Called by the command line when it lacks the command it was given."""
