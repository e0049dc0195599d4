"""Settings: from arguments, else the environment, else ``[tool.pyworkflow]`` in the nearest ``pyproject.toml``."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import Factory, field, frozen

from pyworkflow.config.coercion import Parameter, did_you_mean, parameters, read
from pyworkflow.config.config_string import Spec
from pyworkflow.config.masking import shown
from pyworkflow.errors import ConfigError
from pyworkflow.plugins.manager import BLOCK
from pyworkflow.ports import RetryPolicy, Storage

if TYPE_CHECKING:
    from pyworkflow.plugins.manager import Plugins

S = TypeVar("S")

PREFIX = "PYWORKFLOW_"

# Which extra brings the settings with a prefix, of those that we know.
_PACKAGES = {"celery": "celery", "aws": "aws", "deploy": "aws", "lambda": "aws", "dynamodb": "aws", "sqlite": "sqlite"}

_NO_SETTINGS = frozenset({BLOCK, "PYWORKFLOW_MODULE"})
"""Variables that say something else: what is not to be loaded, and which module a process serves."""

logger = logging.getLogger(__name__)


@frozen
class Settings:
    """What can be configured.

    Attributes:
        storage: Where durable runs are kept: a config string or a storage.
        default_runtime: Where workflows run that name no runtime.
        default_durable: Whether workflows are durable that do not say; None: what the runtime's default is.
        default_retries: How many attempts may follow the first one of a step that does not say.
        default_retry: The retry policy of steps that name none: a config string or a policy.
        plugins: Plugins to load at once: names of installed ones, dotted modules, or objects with hooks.
        allow_nan: Whether NaN and infinity may be stored.
        begin: Whether a process that starts a durable run executes it, if its runtime does; else it is left to workers.
        of_plugins: The settings of plugins, by their class; `of` returns them.
    """

    storage: str | Storage | None = field(default=None, repr=shown)
    default_runtime: str = field(default="local", repr=shown)
    default_durable: bool | None = None
    default_retries: int = 3
    default_retry: str | RetryPolicy = field(default="exponential?base=1s&cap=60s", repr=shown)
    plugins: tuple[Any, ...] = ()
    allow_nan: bool = True
    begin: bool = True
    of_plugins: Mapping[type, Any] = field(default=Factory(dict), repr=False, kw_only=True)

    def of(self, settings: type[S]) -> S:
        """Return the settings of a plugin, made with their defaults if none was given.

        Raises:
            ConfigError: One that has no default was not given.
        """
        return self.of_plugins[settings] if settings in self.of_plugins else _made(settings, {}, settings.__name__)


@frozen
class _Given:
    """A value that somebody gave, and where."""

    value: Any = field(repr=False)
    source: str


def resolve(
    explicit: Mapping[str, Any],
    *,
    plugins: Plugins,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Settings:
    """Return the settings, and load the plugins that they name. Of several values for a key, the most explicit counts.

    Args:
        explicit: What was given by argument; None counts as not given.
        plugins: Asked for their settings, and loaded, if a key has no meaning without them.
        environ: By default the environment of the process.
        cwd: Where the search for ``pyproject.toml`` begins, and goes upwards; by default the current directory.

    Raises:
        ConfigError: A key is unknown, a value does not fit, a plugin cannot be loaded, or the file cannot be read. The
            message says where the value came from.
    """
    known, _ = parameters(Settings)
    del known["of_plugins"]
    given = _from_file(Path.cwd() if cwd is None else cwd)
    given |= _from_environment(os.environ if environ is None else environ)
    given |= {key: _Given(value, f"argument {key}") for key, value in explicit.items() if value is not None}

    values = {key: _read(key, given[key], parameter) for key, parameter in known.items() if key in given}
    _check(values, given)
    plugins.load(values.get("plugins", ()))
    others = {key: value for key, value in given.items() if key not in known}
    return Settings(**values, of_plugins=_of_plugins(others, known, plugins))


def _read(key: str, given: _Given, parameter: Parameter) -> Any:
    try:
        return read(given.value, parameter.type, key)
    except ConfigError as error:
        msg = f"{error} ({given.source})"
        raise ConfigError(msg) from None


def _check(values: Mapping[str, Any], given: Mapping[str, _Given]) -> None:
    """Refuse what is of the right type and wrong all the same."""
    try:
        for key in ("storage", "default_runtime", "default_retry"):
            value = values.get(key)
            if isinstance(value, str):
                Spec.parse(value)
        key = "default_retry"
        if not isinstance(policy := values.get(key, ""), str) and not callable(getattr(policy, "delay", None)):
            msg = f"{shown(policy)} is not a retry policy: it has no method delay(attempt, error)"
            raise ConfigError(msg)  # noqa: TRY301 -- all of them get their source in one place
        key = "default_retries"
        if values.get(key, 0) < 0:
            msg = "it is the number of attempts after the first one, and cannot be negative"
            raise ConfigError(msg)  # noqa: TRY301 -- as above
    except ConfigError as error:
        msg = f"{key}: {error} ({given[key].source})"
        raise ConfigError(msg) from None


# -- settings of plugins -------------------------------------------------------


def _of_plugins(given: Mapping[str, _Given], core: Iterable[str], plugins: Plugins) -> dict[type, Any]:
    """Return the settings of the plugins that the keys in *given* belong to, by class."""
    if any(_owner(key, plugins) is None for key in given):
        plugins.load_all()
    found: dict[str, dict[str, Any]] = {}
    sources: dict[str, list[str]] = {}
    for key, value in given.items():
        owner = _owner(key, plugins)
        if owner is None:
            _unknown(key, value, core, plugins)
            continue
        prefix, name = owner
        parameter = parameters(plugins.settings_classes()[prefix])[0][name]
        found.setdefault(prefix, {})[name] = _read(key, value, parameter)
        sources.setdefault(prefix, []).append(value.source)
    classes = plugins.settings_classes()
    return {
        classes[prefix]: _made(classes[prefix], values, f"{prefix}_… ({', '.join(sources[prefix])})")
        for prefix, values in found.items()
    }


def _owner(key: str, plugins: Plugins) -> tuple[str, str] | None:
    """Return the longest prefix that *key* has and its name after that, if a loaded plugin knows both."""
    classes = plugins.settings_classes()
    for prefix in sorted(classes, key=len, reverse=True):
        name = key.removeprefix(f"{prefix}_")
        if name != key and name in parameters(classes[prefix])[0]:
            return prefix, name
    return None


def _unknown(key: str, given: _Given, core: Iterable[str], plugins: Plugins) -> None:
    classes = plugins.settings_classes()
    known = [*core, *(f"{prefix}_{name}" for prefix, cls in classes.items() for name in parameters(cls)[0])]
    prefix = key.partition("_")[0]
    lines = [f"there is no setting {key!r}{did_you_mean(key, known)} ({given.source})"]
    if prefix in _PACKAGES and prefix not in classes:
        lines.append(plugins.missing(_PACKAGES[prefix]))
    if given.source.startswith("environment variable"):
        logger.warning("%s", "; ".join(lines))
        return
    lines.append(f"the settings are: {', '.join(known)}")
    raise ConfigError("\n".join(lines + plugins.troubles()))


def _made(settings: type[S], values: Mapping[str, Any], what: str) -> S:
    missing = [name for name, parameter in parameters(settings)[0].items() if parameter.required and name not in values]
    if missing:
        msg = f"settings {what}: {', '.join(map(repr, missing))} has to be given too"
        raise ConfigError(msg)
    try:
        return settings(**values)
    except (TypeError, ValueError) as error:
        msg = f"settings {what}: {_shown_error(error, values)}"
        raise ConfigError(msg) from None


def _shown_error(error: Exception, values: Mapping[str, Any]) -> str:
    """Return the text of *error* without the secrets among *values*."""
    text = str(error)
    for name, value in values.items():
        if isinstance(value, str) and value and shown(value, name) != repr(value):
            text = text.replace(value, shown(value, name))
    return text


# -- where they come from ------------------------------------------------------


def _from_environment(environ: Mapping[str, str]) -> dict[str, _Given]:
    """Return what ``PYWORKFLOW_…`` variables say; an empty one says nothing."""
    return {
        name.removeprefix(PREFIX).lower(): _Given(value, f"environment variable {name}")
        for name, value in environ.items()
        if name.startswith(PREFIX) and name not in _NO_SETTINGS and value.strip()
    }


def _from_file(cwd: Path) -> dict[str, _Given]:
    """Return what the nearest ``pyproject.toml`` says, at *cwd* or above."""
    cwd = cwd.absolute()
    file = next((path for folder in (cwd, *cwd.parents) if (path := folder / "pyproject.toml").is_file()), None)
    if file is None:
        return {}
    import tomllib

    try:
        table = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}).get("pyworkflow", {})
    except tomllib.TOMLDecodeError as error:
        msg = f"{file} is not valid TOML: {error}"
        raise ConfigError(msg) from None
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{file} cannot be read: {error}"
        raise ConfigError(msg) from None
    except AttributeError:
        table = None
    if not isinstance(table, dict):
        msg = f"[tool.pyworkflow] in {file} is not a table"
        raise ConfigError(msg)
    return {key: _Given(value, f"[tool.pyworkflow] in {file}") for key, value in table.items()}
