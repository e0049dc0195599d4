"""Plugins: found by name, loaded only then, and none of them able to take the others along."""

from __future__ import annotations

import importlib.metadata
import logging
import sys
from importlib.metadata import EntryPoint
from types import ModuleType, SimpleNamespace

import pytest
from attrs import frozen
from cattrs import Converter

from pyworkflow import App
from pyworkflow.backends.retries import Fixed
from pyworkflow.errors import BackendNotFound, ConfigError, ExtraMissing, PluginConflict
from pyworkflow.plugins.kinds import RETRY_POLICY, RUNTIME
from pyworkflow.plugins.manager import Plugins
from pyworkflow.ports import Mode, RuntimeOffer, hookimpl


class Installed:
    """What is installed, as far as `importlib.metadata` can tell: entry points that count how often they are loaded."""

    def __init__(self, monkeypatch):
        self.points = []
        self.loaded = []
        self.monkeypatch = monkeypatch

    def add(self, name, hooks=None, *, dist="", version="1.0", error=None):
        module = f"installed_{len(self.points)}_{name.replace('-', '_')}"
        if error is None:
            code = ModuleType(module)
            vars(code).update(hooks or {})
            self.monkeypatch.setitem(sys.modules, module, code)
        point = Point(name, module, "pyworkflow")
        vars(point).update(dist=SimpleNamespace(name=dist, version=version) if dist else None, error=error, owner=self)
        self.points.append(point)
        return module

    def entry_points(self, *, group):
        assert group == "pyworkflow"
        return self.points


class Point(EntryPoint):
    def load(self):
        self.owner.loaded.append(self.name)
        if self.error is not None:
            raise self.error
        return super().load()


@pytest.fixture
def installed(monkeypatch):
    result = Installed(monkeypatch)
    monkeypatch.setattr(importlib.metadata, "entry_points", result.entry_points)
    monkeypatch.setattr(importlib.metadata, "distributions", lambda **_: ())
    return result


def offering(hook, **offers):
    """Return the contents of a plugin that offers something by a hook; underscores stand for dashes."""

    def impl():
        return {name.replace("_", "-"): offer for name, offer in offers.items()}

    return {f"pyworkflow_{hook}": hookimpl(impl)}


def implementing(**hooks):
    return {f"pyworkflow_{name}": hookimpl(function) for name, function in hooks.items()}


# -- finding --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["none", "fixed", "exponential"])
def test_built_in_is_found_without_a_look_at_what_is_installed(monkeypatch, name):
    monkeypatch.delattr(importlib.metadata, "entry_points")
    assert callable(Plugins({}).retry_policy(name))


def test_local_runtime_has_both_modes_and_is_transient_by_default():
    offer = Plugins({}).runtime("local")
    assert offer.modes == {Mode.DURABLE, Mode.TRANSIENT}
    assert offer.default is Mode.TRANSIENT


def test_memory_storage_is_built_in():
    assert callable(Plugins({}).storage("memory"))


def test_installed_plugin_is_loaded_once_and_only_for_a_name_that_is_not_built_in(installed):
    installed.add("acme", offering("retry_policies", acme=Fixed))
    plugins = Plugins({})
    assert plugins.make(RETRY_POLICY, "fixed?delay=2s") == Fixed("2s")
    assert installed.loaded == []
    assert plugins.retry_policy("acme") is Fixed
    assert plugins.make(RETRY_POLICY, "acme?delay=2s") == Fixed("2s")
    assert installed.loaded == ["acme"]


def test_config_string_is_found_by_its_name(installed):
    installed.add("acme", offering("storages", acme=dict))
    assert Plugins({}).storage("acme://place?a=1") is dict


def test_unknown_backend_says_what_is_installed_and_what_is_meant(installed):
    installed.add("acme", offering("storages", acme=dict), dist="acme-workflows", version="1.2")
    with pytest.raises(BackendNotFound) as caught:
        Plugins({}).storage("memroy")
    assert str(caught.value) == (
        "there is no storage 'memroy' (did you mean 'memory'?)\n"
        "installed storages: acme (plugin 'acme' of acme-workflows 1.2), memory (pyworkflow itself)"
    )


@pytest.mark.parametrize(
    "kind,name,extra",
    [
        ("storage", "sqlite", "sqlite"),
        ("storage", "dynamodb", "aws"),
        ("runtime", "celery", "celery"),
        ("runtime", "lambda", "aws"),
        ("runtime", "durable-lambda", "aws"),
    ],
)
def test_known_backend_that_is_not_installed_names_its_package(installed, kind, name, extra):
    with pytest.raises(BackendNotFound) as caught:
        getattr(Plugins({}), kind)(name)
    assert str(caught.value).startswith(f"there is no {kind} {name!r}\n")
    assert (
        f"it comes with the package 'pyworkflow-{extra}': install pyworkflow-{extra}, "
        f"e.g. pip install --find-links dist 'pyworkflow[{extra}]', after python3 dev.py nox -s dist in a clone"
    ) in str(caught.value)


def test_package_that_is_installed_is_not_to_be_installed_again(installed):
    installed.add("aws", dist="pyworkflow-aws", version="0.0.9")
    with pytest.raises(
        BackendNotFound, match=r"'pyworkflow-aws', but pyworkflow-aws 0\.0\.9, which is installed, does not"
    ):
        Plugins({}).storage("dynamodb")


def test_backend_of_another_kind_is_told_apart(installed):
    with pytest.raises(BackendNotFound, match="'celery' is a runtime, not a storage"):
        Plugins({}).storage("celery")
    with pytest.raises(BackendNotFound, match="'memory' is a storage, not a runtime"):
        Plugins({}).runtime("memory")


def test_name_that_is_no_name_is_a_config_error():
    with pytest.raises(ConfigError, match=r"'\./x\.db' is not a config string"):
        Plugins({}).storage("./x.db")


def test_two_plugins_with_one_name_are_both_named(installed):
    installed.add("a", offering("storages", acme=dict), dist="acme-a")
    installed.add("b", offering("storages", acme=list), dist="acme-b", version="2.0")
    with pytest.raises(PluginConflict) as caught:
        Plugins({}).storage("acme")
    assert str(caught.value) == (
        "the storage 'acme' is offered by plugin 'a' of acme-a 1.0 and by plugin 'b' of acme-b 2.0; "
        "block one of them: PYWORKFLOW_BLOCK_PLUGINS=b"
    )
    assert Plugins({"PYWORKFLOW_BLOCK_PLUGINS": "b"}).storage("acme") is dict


def test_conflict_about_one_name_leaves_the_others_usable(installed):
    installed.add("a", offering("storages", acme=dict, a=dict))
    installed.add("b", offering("storages", acme=list))
    assert Plugins({}).storage("a") is dict


def test_plugin_that_offers_a_built_in_name_conflicts_once_it_is_loaded(installed):
    plugins = Plugins({})
    plugins.load([SimpleNamespace(__name__="mine", **offering("retry_policies", fixed=Fixed))])
    with pytest.raises(PluginConflict, match=r"by pyworkflow itself and by plugin 'mine'; .*PLUGINS=mine$"):
        plugins.retry_policy("fixed")


# -- broken and blocked ones ----------------------------------------------------


def misspelt():
    def impl():
        return {"acme": dict}

    return implementing(storage=impl)


def wrong_arguments():
    return implementing(event=lambda run, happening: None)


def no_mapping():
    return implementing(storages=lambda: ["acme"])


def no_offer():
    return offering("runtimes", other=dict)


def undecorated():
    return {"pyworkflow_storages": lambda: {"acme": dict}}


def raising():
    def impl():
        msg = "no licence"
        raise RuntimeError(msg)

    return implementing(runtimes=impl)


@pytest.mark.parametrize(
    "hooks,message",
    [
        (misspelt, r"'pyworkflow_storage' is not a hook \(did you mean 'pyworkflow_storages'\?\); the hooks are: "),
        (wrong_arguments, "Plugin 'bad' for hook 'pyworkflow_event'"),
        (no_mapping, "ValueError: "),
        (no_offer, "pyworkflow_runtimes maps 'other' to .*; it has to map a name to a RuntimeOffer"),
        (undecorated, "its function 'pyworkflow_storages' lacks the decorator @hookimpl of pyworkflow.ports"),
        (raising, "RuntimeError: no licence"),
    ],
)
def test_plugin_with_a_wrong_hook_is_told_and_takes_no_other_along(installed, hooks, message):
    installed.add("bad", hooks(), dist="acme-bad")
    installed.add("good", offering("storages", good=dict))
    plugins = Plugins({})
    assert plugins.storage("good") is dict
    with pytest.raises(BackendNotFound, match=f"plugin 'bad' of acme-bad 1.0 could not be loaded: .*{message}"):
        plugins.runtime("unknown") and plugins.storage("unknown")


def test_a_plugin_whose_extra_is_not_installed_is_no_trouble_until_it_is_named(installed, caplog):
    installed.add("traces", error=ExtraMissing("it needs the extra 'otel'"), dist="acme")
    plugins = Plugins({})
    (report,) = (report for report in plugins.report() if report.name == "traces")
    assert (report.error, report.needs) == (None, "it needs the extra 'otel'")
    assert not caplog.text
    assert not plugins.troubles()
    with pytest.raises(ConfigError, match=r"plugin 'traces' of acme 1.0 could not be loaded: .*extra 'otel'"):
        plugins.load(["traces"])


@pytest.mark.parametrize("error", [ImportError("No module named 'driver'"), SyntaxError("x"), SystemExit(3)])
def test_plugin_that_cannot_be_imported_is_told_and_takes_no_other_along(installed, caplog, error):
    installed.add("bad", error=error, dist="acme-bad")
    installed.add("good", offering("storages", good=dict))
    plugins = Plugins({})
    assert plugins.storage("good") is dict
    text = f"plugin 'bad' of acme-bad 1.0 could not be loaded: {type(error).__name__}: {error}"
    assert plugins.broken == {"bad": error}
    assert text in caplog.text
    with pytest.raises(BackendNotFound) as caught:
        plugins.storage("unknown")
    assert text in str(caught.value)


def test_blocked_plugin_is_not_even_loaded(installed):
    installed.add("acme", offering("storages", acme=dict))
    plugins = Plugins({"PYWORKFLOW_BLOCK_PLUGINS": " other, acme"})
    with pytest.raises(BackendNotFound, match="blocked by PYWORKFLOW_BLOCK_PLUGINS: acme"):
        plugins.storage("acme")
    plugins.load(["acme"])
    assert installed.loaded == []


def test_foreign_package_of_our_name_is_told(installed, monkeypatch):
    found = {
        "pyworkflow": [dist("pyworkflow", "0.0.2", "pyworkflow/__init__.py")],
        "pyworkflow-engine": [dist("pyworkflow-engine", "0.3.0", "pyworkflow/__init__.py")],
    }
    monkeypatch.setattr(importlib.metadata, "distributions", lambda name: found[name])
    with pytest.raises(BackendNotFound) as caught:
        Plugins({}).storage("unknown")
    assert "the distribution pyworkflow 0.0.2 is another project that installs a package 'pyworkflow'" in str(
        caught.value
    )
    assert "uninstall it (pip uninstall pyworkflow-engine), then install pyworkflow-core again" in str(caught.value)
    found.update(
        {"pyworkflow": [dist("pyworkflow", "0.1.0", "pyworkflow-0.1.0.dist-info/RECORD")], "pyworkflow-engine": []}
    )
    assert Plugins({}).troubles() == []


def dist(name, version, *files):
    return SimpleNamespace(name=name, version=version, files=[importlib.metadata.PackagePath(file) for file in files])


# -- named plugins --------------------------------------------------------------


def test_plugins_are_loaded_by_entry_point_module_and_object(installed, monkeypatch):
    installed.add("acme", offering("storages", acme=dict))
    installed.add("other", offering("storages", other=dict))
    module = ModuleType("shop.hooks")
    vars(module).update(offering("storages", shop=list))
    monkeypatch.setitem(sys.modules, "shop", ModuleType("shop"))
    monkeypatch.setitem(sys.modules, "shop.hooks", module)
    plugins = Plugins({})
    for _ in range(2):  # a second time is no mistake
        plugins.load(["acme", "shop.hooks", module])
    assert installed.loaded == ["acme"]
    assert plugins.storage("acme") is dict
    assert plugins.storage("shop") is list


def test_two_objects_of_a_class_are_two_plugins():
    class Watch:
        def __init__(self):
            self.seen = []

        @hookimpl
        def pyworkflow_event(self, run, event):
            self.seen.append((run, event))

    plugins, watches = Plugins({}), [Watch(), Watch()]
    plugins.load(watches)
    for observe in plugins.observers():
        observe("run", "event")
    assert [watch.seen for watch in watches] == [[("run", "event")]] * 2


def test_plugin_that_is_named_has_to_exist(installed):
    installed.add("acme")
    with pytest.raises(
        ConfigError, match=r"there is no plugin 'acne' \(did you mean 'acme'\?\): neither is one installed"
    ):
        Plugins({}).load(["acne"])
    with pytest.raises(ConfigError, match=r"there is no plugin 'no_such\.module': neither"):
        Plugins({}).load(["no_such.module"])


def test_plugin_that_is_named_has_to_work(installed, monkeypatch, tmp_path):
    error = ImportError("no driver")
    installed.add("acme", error=error)
    with pytest.raises(ConfigError, match="plugin 'acme' could not be loaded: ImportError: no driver") as caught:
        Plugins({}).load(["acme"])
    assert caught.value.__cause__ is error
    with pytest.raises(ConfigError, match=r"plugin 'bad' could not be loaded: .* is not a hook"):
        Plugins({}).load([SimpleNamespace(__name__="bad", **misspelt())])
    (tmp_path / "broken_hooks.py").write_text("import no_such_driver", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ConfigError, match=r"plugin 'broken_hooks' could not be loaded: .*No module named 'no_such_driver'"
    ):
        Plugins({}).load(["broken_hooks"])


def test_plugin_that_was_mended_is_taken():
    plugins = Plugins({})
    with pytest.raises(ConfigError):
        plugins.load([SimpleNamespace(__name__="mine", **misspelt())])
    plugins.load([SimpleNamespace(__name__="mine", **offering("storages", mine=dict))])
    assert plugins.storage("mine") is dict


def test_entry_points_of_one_name_are_told_apart_by_distribution(installed):
    installed.add("acme", offering("storages", one=dict), dist="acme-a")
    installed.add("acme", offering("storages", two=dict), dist="acme-b")
    plugins = Plugins({"PYWORKFLOW_BLOCK_PLUGINS": "acme@acme-a"})
    assert plugins.storage("two") is dict
    with pytest.raises(BackendNotFound, match=r"blocked by .*: acme@acme-a"):
        plugins.storage("one")


# -- the other hooks ------------------------------------------------------------


def test_observers_are_none_without_a_plugin_that_observes():
    assert Plugins({}).observers() == ()


def test_observer_gets_what_it_asks_for_and_breaks_nothing(caplog):
    seen = []

    def watch(event):
        seen.append(event)

    def stumble(run, event):
        msg = "oops"
        raise RuntimeError(msg)

    plugins = Plugins({})
    plugins.load([SimpleNamespace(__name__="stumbling", **implementing(event=stumble))])
    plugins.load([SimpleNamespace(__name__="watching", **implementing(event=watch))])
    for observe in plugins.observers():
        observe("run", "event")
    assert seen == ["event"]
    assert "plugin 'stumbling' failed to observe str" in caplog.text


def test_converter_is_taught_by_plugins():
    class Money:
        pass

    def teach(converter):
        converter.register_unstructure_hook(Money, lambda _: "1 EUR")

    plugins, converter = Plugins({}), Converter()
    plugins.load([SimpleNamespace(__name__="money", **implementing(converter=teach))])
    plugins.converters(converter)
    assert converter.unstructure(Money()) == "1 EUR"


def test_converter_hook_that_fails_is_an_error():
    def fail(converter):
        msg = "oops"
        raise RuntimeError(msg)

    plugins = Plugins({})
    plugins.load([SimpleNamespace(__name__="bad", **implementing(converter=fail))])
    with pytest.raises(ConfigError, match="plugin 'bad' failed in pyworkflow_converter: RuntimeError: oops"):
        plugins.converters(Converter())


def test_commands_come_from_all_installed_plugins_but_broken_ones(installed):
    def fail(cli):
        msg = "oops"
        raise RuntimeError(msg)

    installed.add("bad", implementing(commands=fail))
    installed.add("good", implementing(commands=lambda cli: cli.append("deploy")))
    plugins, cli = Plugins({}), []
    plugins.commands(cli)
    assert cli == ["deploy"]
    assert str(plugins.broken["bad"]) == "oops"


def test_settings_classes_come_from_loaded_plugins(installed):
    @frozen
    class AcmeSettings:
        url: str = ""

    installed.add("acme", offering("settings", acme=AcmeSettings))
    installed.add("other", offering("settings", other=dict))
    plugins = Plugins({})
    assert plugins.settings_classes() == {}
    plugins.load_all()
    assert plugins.settings_classes() == {"acme": AcmeSettings}
    assert "it has to map a name to an attrs class" in str(plugins.broken["other"])


def test_settings_prefix_of_two_plugins_is_a_conflict(installed):
    @frozen
    class AcmeSettings:
        pass

    installed.add("a", offering("settings", acme=AcmeSettings))
    installed.add("b", offering("settings", acme=AcmeSettings))
    plugins = Plugins({})
    plugins.load_all()
    with pytest.raises(PluginConflict, match="the settings prefix 'acme' is offered by plugin 'a' and by plugin 'b'"):
        plugins.settings_classes()


# -- the report -----------------------------------------------------------------


def test_report_says_what_each_plugin_offers_or_why_it_does_not(installed):
    runtime = RuntimeOffer(dict, frozenset({Mode.DURABLE}), Mode.DURABLE)
    installed.add(
        "acme", {**offering("storages", acme=dict), **offering("runtimes", acme_fast=runtime)}, dist="acme", version="2"
    )
    installed.add("bad", error=ImportError("no driver"))
    installed.add("blocked", dist="blocked-dist")
    installed.add("double", offering("storages", acme=list))
    installed.add("late", raising())
    plugins = Plugins({"PYWORKFLOW_BLOCK_PLUGINS": "blocked"})
    report = {plugin.name: plugin for plugin in plugins.report()}

    assert next(iter(report)) == "builtins"
    assert report["builtins"].distribution.name == "pyworkflow-core"
    assert report["builtins"].offers == {
        "runtimes": ("local",),
        "storages": ("memory",),
        "retry policies": ("exponential", "fixed", "none"),
    }
    assert report["acme"].offers == {"storages": ("acme",), "runtimes": ("acme-fast",)}
    assert report["acme"].hooks == ("pyworkflow_runtimes", "pyworkflow_storages")
    assert str(report["acme"].distribution) == "acme 2"
    assert report["acme"].error == "the storage 'acme' is offered by 'double' too"
    assert report["bad"].error == "ImportError: no driver"
    assert report["blocked"].blocked
    assert report["blocked"].distribution.name == "blocked-dist"
    assert report["late"].error == "RuntimeError: no licence"
    assert "blocked" not in installed.loaded


def test_named_backend_of_a_plugin_is_made_with_what_it_is_given(installed):
    offer = RuntimeOffer(lambda app, size=1: (app, size), frozenset({Mode.DURABLE}), Mode.DURABLE)
    installed.add("acme", offering("runtimes", acme=offer))
    assert Plugins({}).make(RUNTIME, "acme?size=3", app="App") == ("App", "3")


def test_being_made_loads_nothing_and_reads_the_environment(monkeypatch, caplog):
    monkeypatch.delattr(importlib.metadata, "entry_points")
    monkeypatch.setenv("PYWORKFLOW_BLOCK_PLUGINS", "acme")
    with caplog.at_level(logging.INFO):
        Plugins().load(["acme"])
    assert "plugin 'acme' is not loaded, as PYWORKFLOW_BLOCK_PLUGINS names it" in caplog.text


def test_a_plugin_that_no_setting_names_observes_nothing() -> None:
    app = App()
    app.plugins.load_all()  # as when a name is looked for; the one for traces is installed with the package
    assert app.historian() is None
    app.configure(plugins=["opentelemetry"])
    assert app.historian() is not None
