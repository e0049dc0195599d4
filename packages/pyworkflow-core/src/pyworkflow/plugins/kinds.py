"""The kinds of things that plugins offer by name, and what a report says about a plugin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import attrs
from attrs import Factory, frozen

from pyworkflow.errors import ConfigError
from pyworkflow.plugins.distributions import Distribution
from pyworkflow.ports import RetryPolicy, RuntimeOffer, Storage

T = TypeVar("T")


@frozen(eq=False)
class Kind(Generic[T]):
    """A kind of thing that plugins offer by name.

    Attributes:
        noun: What errors call one of them.
        plural: What a report calls several.
        hook: By which hook they are offered.
        fits: Whether something is what the hook has to map a name to.
        needed: What that is, in words.
        factory: Takes the factory out of what is offered.
        packages: Which extra brings which name, of those that we know.
    """

    noun: str
    plural: str
    hook: str
    fits: Callable[[object], bool]
    needed: str
    factory: Callable[[T], Callable[..., Any]]
    packages: Mapping[str, str] = Factory(dict)

    def check(self, name: object, offer: object) -> None:
        """Refuse what a hook must not return.

        Raises:
            ConfigError: The hook maps something else than a name, or to something else than it has to.
        """
        if not isinstance(name, str) or not self.fits(offer):
            msg = f"{self.hook} maps {name!r} to {offer!r}; it has to map a name to {self.needed}"
            raise ConfigError(msg)


RUNTIME = Kind[RuntimeOffer](
    "runtime",
    "runtimes",
    "pyworkflow_runtimes",
    lambda offer: isinstance(offer, RuntimeOffer),
    "a RuntimeOffer",
    lambda offer: offer.factory,
    {"celery": "celery", "lambda": "aws", "durable-lambda": "aws"},
)
STORAGE = Kind[Callable[..., Storage]](
    "storage",
    "storages",
    "pyworkflow_storages",
    callable,
    "a factory",
    lambda offer: offer,
    {"sqlite": "sqlite", "dynamodb": "aws"},
)
RETRY_POLICY = Kind[Callable[..., RetryPolicy]](
    "retry policy",
    "retry policies",
    "pyworkflow_retry_policies",
    callable,
    "a factory",
    lambda offer: offer,
)
SETTINGS = Kind[type](
    "settings prefix",
    "settings",
    "pyworkflow_settings",
    lambda offer: isinstance(offer, type) and attrs.has(offer),
    "an attrs class",
    lambda offer: offer,
)
KINDS: tuple[Kind[Any], ...] = (RUNTIME, STORAGE, RETRY_POLICY, SETTINGS)


@frozen
class PluginReport:
    """What is known about a plugin.

    Attributes:
        name: Its name, as ``configure(plugins=[…])`` and ``PYWORKFLOW_BLOCK_PLUGINS`` take it.
        distribution: What installed it.
        offers: Names by what they are: ``{"storages": ("sqlite",)}``.
        hooks: The hooks it implements.
        error: What is wrong with it; None: nothing.
        needs: What to install before it can be used; None: nothing.
        blocked: Whether it was not loaded because ``PYWORKFLOW_BLOCK_PLUGINS`` names it.
    """

    name: str
    distribution: Distribution = Factory(Distribution)
    offers: Mapping[str, tuple[str, ...]] = Factory(dict)
    hooks: tuple[str, ...] = ()
    error: str | None = None
    needs: str | None = None
    blocked: bool = False
