"""Which mode a workflow has: durable or transient."""

from __future__ import annotations

from pyworkflow.errors import DefinitionError
from pyworkflow.ports import Mode, RuntimeOffer


def settle_mode(offer: RuntimeOffer, runtime: str, *, durable: bool | None, default_durable: bool | None) -> Mode:
    """Return the mode of a workflow: what it says itself, else the only one there is, else the default.

    Raises:
        DefinitionError: The runtime does not have the mode that the workflow asks for.
    """
    if durable is None:
        if len(offer.modes) == 1:
            return next(iter(offer.modes))
        if default_durable is None:
            return offer.default
        durable = default_durable
    mode = Mode.DURABLE if durable else Mode.TRANSIENT
    if mode not in offer.modes:
        raise DefinitionError(offer.refusals.get(mode) or f"Runtime {runtime!r} has no {mode.value} runs.")
    return mode
