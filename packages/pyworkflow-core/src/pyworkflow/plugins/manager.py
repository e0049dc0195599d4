"""Finds backends by name: the package's own first, then those of installed plugins, which are loaded only then."""

from __future__ import annotations

import importlib
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pluggy

from pyworkflow.config.coercion import did_you_mean
from pyworkflow.config.config_string import Spec, build
from pyworkflow.config.masking import masked
from pyworkflow.errors import BackendNotFound, ConfigError, ExtraMissing, PluginConflict
from pyworkflow.plugins import builtins, hookspecs
from pyworkflow.plugins.distributions import CORE, Distribution, advice, conflicts, distribution, entry_points, version
from pyworkflow.plugins.kinds import KINDS, RETRY_POLICY, RUNTIME, SETTINGS, STORAGE, Kind, PluginReport
from pyworkflow.ports import RetryPolicy, RuntimeOffer, Storage

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from cattrs import Converter
    from pluggy import HookImpl

    from pyworkflow.model import Run

T = TypeVar("T")
Observer = Callable[["Run", Any], None]
"""Called with a run, and with an event of it or with its whole history."""

BLOCK = "PYWORKFLOW_BLOCK_PLUGINS"
BUILTINS = "builtins"

_OBSERVED = {"pyworkflow_event": "event", "pyworkflow_ended": "history"}

logger = logging.getLogger(__name__)


class Plugins:
    """The plugins of an application. Being installed alone runs no code of a plugin.

    Args:
        environ: Where ``PYWORKFLOW_BLOCK_PLUGINS`` is read; by default the environment of the process.

    Attributes:
        broken: Plugins that cannot be used, by name, with the reason. One of them never takes others with it.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self.broken: dict[str, BaseException] = {}
        self._observers: dict[str, tuple[Observer, ...]] = {}
        self._manager = pluggy.PluginManager("pyworkflow")
        self._manager.add_hookspecs(hookspecs)
        self._specs = frozenset(name for name in vars(hookspecs) if name.startswith("pyworkflow_"))
        self._manager.register(builtins, BUILTINS)
        names = (os.environ if environ is None else environ).get(BLOCK, "").split(",")
        self._blocked = frozenset(name.strip() for name in names if name.strip())
        self._distributions: dict[str, Distribution] = {}
        self._points: dict[str, EntryPoint] | None = None
        self._all_loaded = False
        self._loading = threading.RLock()
        self._named: set[str] = set()  # by a setting: only these observe

    # -- finding ---------------------------------------------------------------

    def runtime(self, name: str) -> RuntimeOffer:
        """Return the runtime *name*, which may be a config string; raises as `find` does."""
        return self.find(RUNTIME, name)

    def storage(self, name: str) -> Callable[..., Storage]:
        """Return the factory of the storage *name*, which may be a config string; raises as `find` does."""
        return self.find(STORAGE, name)

    def retry_policy(self, name: str) -> Callable[..., RetryPolicy]:
        """Return the factory of the retry policy *name*, which may be a config string; raises as `find` does."""
        return self.find(RETRY_POLICY, name)

    def find(self, kind: Kind[T], name: str) -> T:
        """Return what is offered as *name*, a name or a config string; load installed plugins if none so far has it.

        Raises:
            BackendNotFound: No plugin offers it. The message says what there is, what to install, and what failed.
            PluginConflict: More than one plugin does.
            ConfigError: *name* is not a config string.
        """
        name = Spec.parse(name).name
        offers = self._offers(kind)
        if name not in offers:
            self.load_all()
            offers = self._offers(kind)
        if name not in offers:
            raise BackendNotFound(self._explain(kind, name, offers))
        return self._only(kind, name, offers[name])

    def make(self, kind: Kind[Any], text: str, *, offered: Mapping[str, Any] | None = None, **given: Any) -> Any:
        """Return the backend that a config string describes; its factory gets *given*, and what it takes of *offered*.

        Raises:
            BackendNotFound, PluginConflict: As `find`.
            ConfigError: As `build`.
        """
        return build(kind.factory(self.find(kind, text)), Spec.parse(text), kind.noun, offered=offered, **given)

    def settings_classes(self) -> Mapping[str, type]:
        """Return the settings classes of the plugins loaded so far, by prefix.

        Raises:
            PluginConflict: Two plugins have one prefix.
        """
        offers = self._offers(SETTINGS)
        return {name: self._only(SETTINGS, name, offered) for name, offered in offers.items()}

    def _only(self, kind: Kind[T], name: str, offered: Mapping[str, T]) -> T:
        if len(offered) == 1:
            return next(iter(offered.values()))
        sources = " and by ".join(self._described(plugin) for plugin in offered)
        foreign = [plugin for plugin in offered if plugin != BUILTINS]
        msg = f"the {kind.noun} {name!r} is offered by {sources}; block one of them: {BLOCK}={foreign[-1]}"
        raise PluginConflict(msg)

    def _offers(self, kind: Kind[T]) -> dict[str, dict[str, T]]:
        """Return what plugins loaded so far offer: by name, then by plugin."""
        found: dict[str, dict[str, T]] = {}
        for impl in self._impls(kind.hook):
            try:
                offers: dict[str, T] = dict(cast("Any", impl.function()))  # `check` looks at what it is
                for name, offer in offers.items():
                    kind.check(name, offer)
            except Exception as error:  # noqa: BLE001 -- one broken plugin must not take others with it
                self._note_broken(impl.plugin_name, error)
                continue
            for name, offer in offers.items():
                found.setdefault(name, {})[impl.plugin_name] = offer
        return found

    def _impls(self, hook: str) -> Iterator[HookImpl]:
        """Return the implementations of a hook, in the order in which plugins were loaded."""
        for impl in getattr(self._manager.hook, hook).get_hookimpls():
            if impl.plugin_name not in self.broken:
                yield impl

    # -- loading ---------------------------------------------------------------

    def load(self, plugins: Iterable[str | object]) -> None:
        """Load the plugins that a setting names: entry points, dotted modules, or objects with hooks.

        Raises:
            ConfigError: One is neither installed nor importable, or it is broken.
        """
        with self._loading:
            for plugin in plugins:
                if isinstance(plugin, str):
                    self._load_named(plugin)
                elif not self._manager.is_registered(plugin):
                    self._register_object(plugin)
            self._note_observers()

    def load_all(self) -> None:
        """Load every installed plugin that is not blocked; those that fail are remembered in `broken`."""
        with self._loading:  # who comes meanwhile waits for what is there in the end
            if self._all_loaded:
                return
            for name, point in self._installed().items():
                self._load_point(name, point)
            self._all_loaded = True

    def forget(self) -> None:
        """Make a new lock: this is a forked child, and another thread of the parent may have held it."""
        self._loading = threading.RLock()

    def _installed(self) -> dict[str, EntryPoint]:
        if self._points is None:
            self._points = entry_points()
            self._distributions |= {name: distribution(point) for name, point in self._points.items()}
        return self._points

    def _load_named(self, name: str) -> None:
        if name in self._blocked:
            logger.info("plugin %r is not loaded, as %s names it", name, BLOCK)
            return
        self._named.add(name)
        if point := self._installed().get(name):
            self._load_point(name, point)
        elif not self._manager.has_plugin(name):
            try:
                module = importlib.import_module(name)
            except ModuleNotFoundError as error:
                if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                    raise ConfigError(_failed(f"plugin {name!r}", error)) from error
                msg = (
                    f"there is no plugin {name!r}{did_you_mean(name, self._installed())}: neither is one installed "
                    "under this name, nor is it a module that can be imported"
                )
                raise ConfigError(msg) from None
            except (Exception, SystemExit) as error:
                raise ConfigError(_failed(f"plugin {name!r}", error)) from error
            if not self._manager.is_registered(module):
                self._register(module, name)
        self._refuse_broken(name)

    def _load_point(self, name: str, point: EntryPoint) -> None:
        if name in self._blocked or name in self.broken or self._manager.has_plugin(name):
            return
        try:
            plugin = point.load()
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- one broken plugin must not take others with it
            self._note_broken(name, error)
            return
        if not self._manager.is_registered(plugin):
            self._register(plugin, name)

    def _register_object(self, plugin: object) -> None:
        wanted = name = getattr(plugin, "__name__", None) or f"{type(plugin).__module__}:{type(plugin).__qualname__}"
        number = 1
        while self._manager.has_plugin(name):
            name = f"{wanted}#{(number := number + 1)}"
        if name in self._blocked:
            logger.info("plugin %r is not loaded, as %s names it", name, BLOCK)
            return
        self._named.add(name)
        self._register(plugin, name)
        self._refuse_broken(name)

    def _refuse_broken(self, name: str) -> None:
        if broken := self.broken.get(name):
            raise ConfigError(_failed(self._described(name), broken)) from broken

    def _register(self, plugin: object, name: str) -> None:
        try:
            self._check_hooks(plugin)
            self._manager.register(plugin, name)
            self.broken.pop(name, None)  # another object of that name was
        except Exception as error:  # noqa: BLE001 -- one broken plugin must not take others with it
            self._note_broken(name, error)

    def _note_observers(self) -> None:
        """Have the plugins observe that a setting names; one loaded to see what it offers was not asked to."""
        self._observers = {
            hook: tuple(_observer(impl, what) for impl in self._impls(hook) if impl.plugin_name in self._named)
            for hook, what in _OBSERVED.items()
        }

    def _check_hooks(self, plugin: object) -> None:
        """Do what pluggy's ``check_pending`` does, for this plugin alone and before it is registered."""
        for attribute in dir(plugin):
            options = self._manager.parse_hookimpl_opts(plugin, attribute)
            if options is None:
                if attribute in self._specs and callable(getattr(plugin, attribute)):
                    msg = f"its function {attribute!r} lacks the decorator @hookimpl of pyworkflow.ports"
                    raise ConfigError(msg)
                continue
            hook = options.get("specname") or attribute
            if hook not in self._specs and not options.get("optionalhook"):
                known = ", ".join(sorted(self._specs))
                msg = f"{hook!r} is not a hook{did_you_mean(hook, self._specs)}; the hooks are: {known}"
                raise ConfigError(msg)

    def _note_broken(self, name: str, error: BaseException) -> None:
        self.broken[name] = error
        level = logging.DEBUG if isinstance(error, ExtraMissing) else logging.WARNING
        logger.log(level, "%s", _failed(self._described(name), error))

    # -- the other hooks -------------------------------------------------------

    def converters(self, converter: Converter) -> None:
        """Let the plugins loaded so far teach *converter* their types.

        Raises:
            ConfigError: One of them failed; going on without its types would lose data later.
        """
        for impl in self._impls("pyworkflow_converter"):
            try:
                impl.function(*[converter for _ in impl.argnames])
            except Exception as error:
                msg = f"{self._described(impl.plugin_name)} failed in pyworkflow_converter: {_named(error)}"
                raise ConfigError(msg) from error

    def observers(self) -> tuple[Observer, ...]:
        """Return what is to be called with each run and event; nothing as long as no plugin has ``pyworkflow_event``.

        They log what goes wrong in them, and raise nothing.
        """
        return self._observers.get("pyworkflow_event", ())

    def historians(self) -> tuple[Observer, ...]:
        """Return what is to be called with each run that ended and its history, likewise."""
        return self._observers.get("pyworkflow_ended", ())

    def commands(self, cli: Any) -> None:
        """Load every installed plugin and let it add its commands to *cli*; those that fail are in `broken` then."""
        self.load_all()
        for impl in list(self._impls("pyworkflow_commands")):
            try:
                impl.function(*[cli for _ in impl.argnames])
            except Exception as error:  # noqa: BLE001 -- one broken plugin must not take others with it
                self._note_broken(impl.plugin_name, error)

    # -- saying what there is --------------------------------------------------

    def report(self) -> tuple[PluginReport, ...]:
        """Load every installed plugin and return what is known about each, the package's own first."""
        self.load_all()
        offered = {kind: self._offers(kind) for kind in KINDS}
        loaded = [name for name, plugin in self._manager.list_name_plugin() if plugin is not None]
        names = dict.fromkeys([*loaded, *self.broken, *self._installed()])
        return tuple(self._report(name, offered) for name in names)

    def _report(self, name: str, offered: Mapping[Kind[Any], dict[str, dict[str, Any]]]) -> PluginReport:
        offers = {
            kind.plural: tuple(sorted(key for key, plugins in found.items() if name in plugins))
            for kind, found in offered.items()
        }
        plugin = self._manager.get_plugin(name)
        hooks = [caller.name for caller in self._manager.get_hookcallers(plugin) or ()] if plugin is not None else []
        broken = self.broken.get(name)
        needs = str(broken) if isinstance(broken, ExtraMissing) else None
        problems = [_named(broken)] if broken is not None and needs is None else []
        for kind, found in offered.items():
            for key, plugins in found.items():
                if name in plugins and len(plugins) > 1:
                    others = ", ".join(repr(other) for other in plugins if other != name)
                    problems.append(f"the {kind.noun} {key!r} is offered by {others} too")
        return PluginReport(
            name,
            self._distribution(name),
            {plural: keys for plural, keys in offers.items() if keys},
            tuple(sorted(hooks)),
            "; ".join(problems) or None,
            needs,
            name in self._blocked and plugin is None,
        )

    def troubles(self) -> list[str]:
        """Return a line for each plugin that is broken or blocked, and for each foreign package ``pyworkflow``."""
        broken = [name for name, error in self.broken.items() if not isinstance(error, ExtraMissing)]
        lines = [_failed(self._described(name), self.broken[name]) for name in broken]
        if blocked := sorted(self._blocked & self._installed().keys()):
            lines.append(f"blocked by {BLOCK}: {', '.join(blocked)}")
        return lines + conflicts()

    def missing(self, extra: str) -> str:
        """Return what to do when something is lacking that our *extra* brings."""
        package = f"pyworkflow-{extra}"
        found = next((d for d in self._distributions.values() if d.name == package), None)
        if found is None:
            return f"it comes with the package {package!r}: {advice(extra)}"
        return f"it comes with the package {package!r}, but {found}, which is installed, does not offer it"

    def _explain(self, kind: Kind[Any], name: str, offers: Mapping[str, Mapping[str, Any]]) -> str:
        lines = [f"there is no {kind.noun} {name!r}{did_you_mean(name, {*offers, *kind.packages})}"]
        others: tuple[Kind[Any], ...] = (RUNTIME, STORAGE, RETRY_POLICY)
        lines += [
            f"{name!r} is a {other.noun}, not a {kind.noun}"
            for other in others
            if other is not kind and (name in other.packages or name in self._offers(other))
        ]
        if extra := kind.packages.get(name):
            lines.append(self.missing(extra))
        there = (f"{key} ({' and '.join(map(self._described, plugins))})" for key, plugins in sorted(offers.items()))
        lines.append(f"installed {kind.plural}: {', '.join(there)}")
        return "\n".join(lines + self.troubles())

    def _distribution(self, name: str) -> Distribution:
        if name == BUILTINS:
            return Distribution(CORE, version(CORE) or "")
        return self._distributions.get(name, Distribution())

    def _described(self, name: str) -> str:
        if name == BUILTINS:
            return "pyworkflow itself"
        source = str(self._distribution(name))
        return f"plugin {name!r} of {source}" if source else f"plugin {name!r}"


def _observer(impl: HookImpl, what: str) -> Observer:
    function, wanted = impl.function, impl.argnames

    def observe(run: Run, seen: Any) -> None:
        given = {"run": run, what: seen}
        try:
            function(*[given[name] for name in wanted])
        except BaseException:  # SystemExit included: it must not end a worker
            logger.exception("plugin %r failed to observe %s", impl.plugin_name, type(seen).__name__)

    return observe


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {masked(str(error))}"


def _failed(plugin: str, error: BaseException) -> str:
    return f"{plugin} could not be loaded: {_named(error)}"
