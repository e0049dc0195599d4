"""docs/plugins.md: it tells of every hook and of every method of a backend, and the plugin it shows works."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tomllib
from datetime import timedelta
from pathlib import Path

import pytest

from pyworkflow import App, ports, step, workflow
from pyworkflow.errors import ConfigError, DefinitionError
from pyworkflow.model import RunQuery
from pyworkflow.plugins import hookspecs

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "plugins.md").read_text()
HOOKS = sorted(name for name in vars(hookspecs) if name.startswith("pyworkflow_"))


def write_plugin(folder: Path) -> None:
    """Write the files of the page, and what an installer makes of its entry point."""
    files: dict[str, str] = {}
    for name, code in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, re.DOTALL):
        files[name] = files.get(name, "") + code + "\n\n"
    for name, code in files.items():
        (folder / name).write_text(code)
    (toml,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    points = tomllib.loads(toml)["project"]["entry-points"]["pyworkflow"]
    info = folder / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[pyworkflow]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()))


@pytest.fixture
def acme(tmp_path, monkeypatch):
    """The page's plugin, as a module."""
    write_plugin(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("acme_hooks")
    for name in ("acme_hooks", "acme_storage"):
        sys.modules.pop(name, None)


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_each_hook_has_its_section_and_there_are_no_others():
    assert sorted(re.findall(r"^### `(\w+)`$", PAGE, re.MULTILINE)) == HOOKS


def test_the_plugin_has_every_hook(acme):
    assert sorted(name for name in vars(acme) if name.startswith("pyworkflow_")) == HOOKS


@pytest.mark.parametrize("method", sorted(ports.Storage.__abstractmethods__ | ports.DurableRuntime.__abstractmethods__))
def test_each_method_of_a_backend_is_told_of(method):
    assert f"`{method}`" in PAGE


def test_each_python_example_says_in_which_file_it_is():
    assert PAGE.count("```python\n# ") == PAGE.count("```python\n")


@step(name="page.pays", retries=5, retry_policy="steps?short=1ms")
async def pays(money): ...


@workflow(name="page.flow")
async def flow() -> str:
    return "done"


@workflow(name="page.transient", durable=False)
async def transient() -> None: ...


@pytest.mark.asyncio
@pytest.mark.usefixtures("acme")
async def test_its_storage_and_its_observer_are_used():
    async with App(plugins=["acme_hooks"], storage="counted://here?label=x", default_durable=True) as app:
        assert await app.call(flow) == "done"
        assert (app.storage.place, app.storage.label, app.storage.writes) == ("here", "x", 1)
        assert (await app.runs(RunQuery())).runs
    seen = importlib.import_module("acme_hooks").seen
    assert seen == [("page.flow", "RunStarted"), ("page.flow", "RunCompleted")]


@pytest.mark.usefixtures("acme")
def test_a_wrong_option_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"storage 'counted' has no option 'labl' \(did you mean 'label'\?\)"):
        _ = App(plugins=["acme_hooks"], storage="counted://?labl=x").storage


@pytest.mark.asyncio
async def test_its_runtime_has_the_modes_it_offers(acme):
    async with App(plugins=[acme], storage="memory://", default_runtime="patient?lease=1h") as app:
        assert await app.call(flow) == "done"
        assert app.recorded().options.lease == timedelta(hours=1)
        with pytest.raises(DefinitionError, match="Patient runtime is always durable"):
            await app.call(transient)


def test_its_retry_policy_takes_options(acme):
    policy, retries = App(plugins=[acme]).retry_policy(pays)
    assert (policy.delay(1, OSError()), policy.delay(4, OSError())) == (timedelta(milliseconds=1), timedelta(minutes=5))
    assert retries == 5


def test_its_settings_are_read(acme, monkeypatch):
    monkeypatch.setenv("PYWORKFLOW_ACME_TIMEOUT", "3s")
    app = App(plugins=[acme], acme_url="https://there.example")
    assert app.settings.of(acme.AcmeSettings) == acme.AcmeSettings("https://there.example", timedelta(seconds=3))


@pytest.mark.asyncio
async def test_its_type_goes_through_a_history(acme):
    async def doubles(money):
        return acme.Money(2 * money.cents)

    doubles.__annotations__ = {"money": acme.Money, "return": acme.Money}
    double = workflow(name="page.doubles")(doubles)
    async with App(plugins=[acme], storage="memory://", default_durable=True) as app:
        assert (await app.call(double, (acme.Money(21),))).cents == 42


def test_its_command_is_found_by_the_command_line(tmp_path):
    write_plugin(tmp_path)
    done = run(tmp_path, "pyworkflow", "acme-status")
    assert (done.returncode, done.stdout) == (0, "acme is well\n"), done.stderr
    listed = run(tmp_path, "pyworkflow", "plugins").stdout
    assert re.search(
        r"acme +acme 1\.0 +runtimes: patient; storages: counted; retry policies: steps; settings: acme", listed
    )


@pytest.mark.timeout(180)
def test_its_backends_keep_the_contracts(tmp_path):
    write_plugin(tmp_path)
    done = run(tmp_path, "pytest", "-q", "-p", "no:cacheprovider", "test_acme_storage.py", "test_acme_runtime.py")
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"\d\d+ passed", done.stdout)
