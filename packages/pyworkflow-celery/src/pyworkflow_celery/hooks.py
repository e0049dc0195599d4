"""What this package offers to pyworkflow; light to import."""

from __future__ import annotations

from collections.abc import Mapping

from pyworkflow.config.config_string import Lazy
from pyworkflow.ports import Mode, RuntimeOffer, hookimpl
from pyworkflow_celery.settings import CelerySettings


@hookimpl
def pyworkflow_runtimes() -> Mapping[str, RuntimeOffer]:
    """Offer ``celery``."""
    return {
        "celery": RuntimeOffer(
            Lazy("pyworkflow_celery.runtime:CeleryRuntime"), frozenset({Mode.DURABLE, Mode.TRANSIENT}), Mode.DURABLE
        )
    }


@hookimpl
def pyworkflow_settings() -> Mapping[str, type]:
    """Offer ``celery_broker`` and the like."""
    return {"celery": CelerySettings}
