"""Settings: where they come from, which one counts, and what is said of a wrong one."""

from __future__ import annotations

import contextlib
import importlib.metadata
import sys
from datetime import timedelta
from importlib.metadata import EntryPoint
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from attrs import field, fields, frozen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyworkflow.backends.retries import Fixed
from pyworkflow.errors import ConfigError
from pyworkflow.plugins.manager import Plugins
from pyworkflow.plugins.settings import Settings, resolve
from pyworkflow.ports import Storage, hookimpl

KEYS = [key.name for key in fields(Settings) if key.name != "of_plugins"]


@frozen
class AcmeSettings:
    url: str = ""
    poll: timedelta = timedelta(seconds=1)
    size: int = field(default=1)
    api_key: str = field(default="", repr=False)

    @size.validator
    def _check_size(self, _: Any, size: int) -> None:
        if size < 0:
            msg = f"a size of {size} for {self.api_key} is negative"
            raise ValueError(msg)


@frozen
class NeedySettings:
    region: str
    table: str = "t"


@pytest.fixture
def plugins(monkeypatch):
    """Plugins, of which ``acme`` is installed, not loaded, and has settings."""
    module = ModuleType("acme_hooks")
    module.pyworkflow_settings = hookimpl(lambda: {"acme": AcmeSettings, "acme_deep": NeedySettings})
    monkeypatch.setitem(sys.modules, "acme_hooks", module)
    points = [EntryPoint("acme", "acme_hooks", "pyworkflow")]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: points)
    monkeypatch.setattr(importlib.metadata, "distributions", lambda **_: ())
    return Plugins({})


@pytest.fixture
def settle(plugins, tmp_path):
    """Resolve settings from arguments, variables without their prefix, and the text of a pyproject.toml."""

    def settle(explicit=None, environ=None, toml=None):
        if toml is not None:
            (tmp_path / "pyproject.toml").write_text(toml, encoding="utf-8")
        below = tmp_path / "a" / "b"
        below.mkdir(parents=True, exist_ok=True)
        variables = {f"PYWORKFLOW_{name}": value for name, value in (environ or {}).items()}
        return resolve(explicit or {}, plugins=plugins, environ=variables, cwd=below)

    return settle


def is_loaded(plugins):
    return bool(plugins.settings_classes())


def test_nothing_given_means_the_defaults(settle, plugins):
    assert settle() == Settings(
        storage=None,
        default_runtime="local",
        default_durable=None,
        default_retries=3,
        default_retry="exponential?base=1s&cap=60s",
        plugins=(),
        allow_nan=True,
        begin=True,
    )
    assert not is_loaded(plugins)


def test_explicit_beats_environment_beats_file(settle):
    toml = '[tool.pyworkflow]\nstorage = "file:///"\ndefault_retries = 1\ndefault_durable = true\n'
    environ = {"STORAGE": "environ://", "DEFAULT_RETRIES": "2"}
    result = settle({"storage": "explicit://"}, environ, toml)
    assert (result.storage, result.default_retries, result.default_durable) == ("explicit://", 2, True)


def test_argument_none_and_an_empty_variable_say_nothing(settle):
    result = settle(
        {"storage": None}, {"DEFAULT_RETRIES": " "}, '[tool.pyworkflow]\nstorage = "memory"\ndefault_retries = 1'
    )
    assert (result.storage, result.default_retries) == ("memory", 1)


@pytest.mark.parametrize("text,value", [("true", True), ("0", False), ("no", False)])
def test_variable_is_read_as_its_key_needs(settle, text, value):
    assert settle(environ={"DEFAULT_DURABLE": text}).default_durable is value


def test_objects_are_taken_as_they_are(settle):
    class Mine(Storage):
        pass

    Mine.__abstractmethods__ = frozenset()
    storage, policy = Mine(), Fixed("1s")
    result = settle({"storage": storage, "default_retry": policy})
    assert result.storage is storage
    assert result.default_retry is policy


def test_only_the_nearest_file_is_read(settle, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "pyproject.toml").write_text("[project]\n", encoding="utf-8")
    assert settle(toml='[tool.pyworkflow]\nstorage = "memory"').storage is None


@pytest.mark.parametrize("toml", ["", "[tool.other]\n", "tool = 1\n"])
def test_file_without_our_table_says_nothing_or_is_refused(settle, toml):
    if toml.startswith("tool ="):
        with pytest.raises(ConfigError, match=r"\[tool.pyworkflow\] in .*pyproject.toml is not a table"):
            settle(toml=toml)
    else:
        assert settle(toml=toml) == Settings()


def test_broken_file_is_named_with_its_line(settle, tmp_path):
    with pytest.raises(ConfigError, match=r"pyproject\.toml is not valid TOML: .*line 2"):
        settle(toml="[tool.pyworkflow]\nstorage = \n")
    (tmp_path / "pyproject.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigError, match=r"pyproject\.toml cannot be read: .*utf-8"):
        settle()


@pytest.mark.parametrize(
    "key,value,message",
    [
        ("default_retries", "many", "default_retries is 'many', but has to be a whole number"),
        ("default_retries", True, "default_retries is True, but has to be a whole number"),
        ("default_retries", -1, "default_retries: it is the number of attempts after the first one, and cannot be"),
        ("default_durable", "maybe", "default_durable is 'maybe', but has to be true or false"),
        ("storage", 3, "storage is 3, but has to be text or a Storage"),
        ("storage", "./x.db", "storage: './x.db' is not a config string"),
        ("default_runtime", "", "default_runtime: '' is not a config string"),
        ("default_retry", 3, "default_retry is 3, but has to be text or a RetryPolicy"),
        ("default_retry", object(), "default_retry: <object object at"),
        ("plugins", 3, "plugins is 3, but has to be a list of any value"),
    ],
)
def test_wrong_value_names_its_key_and_what_is_needed(settle, key, value, message):
    with pytest.raises(ConfigError) as caught:
        settle({key: value})
    assert str(caught.value).startswith(message)
    assert str(caught.value).endswith(f"(argument {key})")


def test_wrong_value_names_its_variable_or_file(settle):
    with pytest.raises(ConfigError, match=r"\(environment variable PYWORKFLOW_DEFAULT_RETRIES\)$"):
        settle(environ={"DEFAULT_RETRIES": "many"})
    with pytest.raises(ConfigError, match=r"\(\[tool\.pyworkflow\] in .*pyproject\.toml\)$"):
        settle(toml="[tool.pyworkflow]\ndefault_retries = 1.5")


def test_unknown_key_names_the_nearest(settle):
    with pytest.raises(ConfigError) as caught:
        settle({"storagee": "memory"})
    assert str(caught.value).startswith(
        "there is no setting 'storagee' (did you mean 'storage'?) (argument storagee)\n"
    )
    assert "the settings are: storage, default_runtime, " in str(caught.value)
    with pytest.raises(ConfigError, match=r"did you mean 'acme_poll'\?\) \(\[tool.pyworkflow\] in "):
        settle(toml='[tool.pyworkflow]\nacme_pol = "1s"')


@pytest.mark.parametrize(
    "key,extra",
    [("celery_broker", "celery"), ("aws_region", "aws"), ("dynamodb_endpoint", "aws"), ("sqlite_timeout", "sqlite")],
)
def test_key_of_a_plugin_that_is_not_installed_names_its_package(settle, key, extra):
    with pytest.raises(ConfigError) as caught:
        settle({key: "redis://user:hunter2@host"})
    assert f"it comes with the package 'pyworkflow-{extra}': install pyworkflow-{extra}, " in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_unknown_variable_is_a_warning(settle, caplog):
    assert settle(environ={"STORAGEE": "x", "BLOCK_PLUGINS": "y"}) == Settings()
    assert caplog.messages == [
        "there is no setting 'storagee' (did you mean 'storage'?) (environment variable PYWORKFLOW_STORAGEE)"
    ]


def test_keys_with_a_prefix_go_to_the_plugin_and_load_it(settle, plugins):
    result = settle(
        {"acme_url": "x", "acme_deep_region": "eu"},
        {"ACME_POLL": "1m30s"},
        "[tool.pyworkflow]\nacme_size = 4\nacme_url = 'y'",
    )
    assert is_loaded(plugins)
    assert result.of(AcmeSettings) == AcmeSettings("x", timedelta(seconds=90), 4)
    assert result.of(NeedySettings) == NeedySettings("eu")


def test_settings_of_a_plugin_have_its_defaults_where_nothing_is_given(settle):
    assert settle().of(AcmeSettings) == AcmeSettings()
    with pytest.raises(ConfigError, match="settings NeedySettings: 'region' has to be given too"):
        settle().of(NeedySettings)


def test_wrong_setting_of_a_plugin_says_where_it_is_from(settle):
    with pytest.raises(ConfigError, match=r"^acme_poll is 'soon', but has to be a duration .* \(argument acme_poll\)$"):
        settle({"acme_poll": "soon"})
    with pytest.raises(ConfigError, match=r"^acme_api_key is \*\*\*, but has to be text \(argument acme_api_key\)$"):
        settle({"acme_api_key": 3})
    with pytest.raises(
        ConfigError, match=r"^settings acme_… \(.*_KEY, argument acme_size\): a size of -1 for \*\*\* is neg"
    ):
        settle({"acme_size": -1}, {"ACME_API_KEY": "hunter2"})
    with pytest.raises(
        ConfigError, match=r"^settings acme_deep_… \(argument acme_deep_table\): 'region' has to be given"
    ):
        settle({"acme_deep_table": "x"})


def test_plugins_that_are_named_are_loaded(settle, plugins):
    assert settle(environ={"PLUGINS": "acme"}).plugins == ("acme",)
    assert is_loaded(plugins)
    with pytest.raises(ConfigError, match="there is no plugin 'acne'"):
        settle({"plugins": ["acne"]})


def test_plugin_objects_are_loaded(settle, plugins):
    plugin = SimpleNamespace(__name__="mine", pyworkflow_settings=hookimpl(lambda: {"mine": AcmeSettings}))
    assert settle({"plugins": [plugin], "mine_size": 2}).of(AcmeSettings).size == 2


def test_secrets_do_not_show(settle):
    result = settle({"storage": "redis://user:hunter2@host?password=hunter2", "acme_api_key": "hunter2"})
    assert "hunter2" not in repr(result)
    with pytest.raises(ConfigError) as caught:
        settle({"storage": "redis://user:hunter2@host?password=hunter2&a=1&a=2"})
    assert "hunter2" not in str(caught.value)


def test_environment_and_directory_are_those_of_the_process_by_default(plugins, monkeypatch, tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.pyworkflow]\ndefault_retries = 7", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYWORKFLOW_STORAGE", "memory")
    result = resolve({}, plugins=plugins)
    assert (result.storage, result.default_retries) == ("memory", 7)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from([*KEYS, "acme_poll", "acme_size", "x"]),
        st.text(max_size=20) | st.integers() | st.floats() | st.booleans() | st.lists(st.text(max_size=3), max_size=2),
        max_size=3,
    )
)
def test_any_values_are_settings_or_a_config_error(plugins, tmp_path, explicit):
    explicit.pop("plugins", None)  # names of modules
    with contextlib.suppress(ConfigError):
        assert repr(resolve(explicit, plugins=plugins, environ={}, cwd=tmp_path))
