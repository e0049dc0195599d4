"""The plugins of examples/plugins are built, installed beside the core's wheel alone, and used, as by an outsider."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "packages" / "pyworkflow-core"
PLUGINS = sorted((ROOT / "examples" / "plugins").iterdir())
NAMES = [folder.name for folder in PLUGINS]
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST", "PYWORKFLOW_"))
}

USE = """
import asyncio, importlib.util, sys
from pathlib import Path

from pyworkflow import App, current_step, step, workflow

assert not [name for name in ("pyworkflow_sqlite", "pyworkflow_celery", "click") if importlib.util.find_spec(name)]

@step(retries=2)
async def flaky(n: int) -> int:
    if current_step().attempt < 3:
        raise ConnectionError
    return n

@workflow
async def flow() -> int:
    return sum(await asyncio.gather(*(flaky(n) for n in range(5))))

settings = dict(
    storage="files:///runs", default_runtime="threads?threads=2", default_retry="fibonacci?unit=1ms&cap=1s"
)

async def main():
    async with App(**settings) as app:
        handle = await app.start(flow, run_id="mine")
        print(await handle.result(timeout=30))
    async with App(**settings) as app:
        print((await app.recorded().run("mine")).status.value)
    backends = app.storage, app.runtime(), app.retry_policy(flaky)[0]
    print(*(type(backend).__module__.split(".")[0] for backend in backends))

asyncio.run(main())
"""


def quietly(*command: object, **options: object) -> str:
    """Run a command, and show its output if it fails."""
    command = list(map(str, command))
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def foreign() -> list[str]:
    """What the core, its extra ``testing`` and the plugins need of others."""
    projects = [tomllib.loads((folder / "pyproject.toml").read_text())["project"] for folder in (CORE, *PLUGINS)]
    needed = [requirement for project in projects for requirement in project["dependencies"]]
    needed += projects[0]["optional-dependencies"]["testing"]
    return [requirement for requirement in needed if not requirement.startswith("pyworkflow")]


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a clean environment with the wheels of the core and of the plugins."""
    folder = tmp_path_factory.mktemp("outside")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    quietly(*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder / "dist", CORE, *PLUGINS)
    quietly(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    install = [*pip, "--python", python, "install", "-q"]
    quietly(*install, "-c", ROOT / "constraints.txt", *foreign())
    quietly(*install, "--no-index", *(folder / "dist").glob("*.whl"))
    return python


@pytest.fixture(scope="module")
def suites(outside: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, subprocess.Popen[bytes]]]:
    """The test suites of the plugins, all under way at once, and where they run."""
    begun = {}
    for plugin in PLUGINS:
        folder = tmp_path_factory.mktemp(plugin.name)
        shutil.copytree(plugin / "tests", folder / "tests")
        shutil.copy(plugin / "pyproject.toml", folder)
        command = [outside, "-m", "pytest", "-q", "--pyworkflow-report", "report.json", "tests"]
        with (folder / "log").open("wb") as log:
            begun[plugin.name] = (
                folder,
                subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stdout=log, stderr=log),
            )
    yield begun
    for _, process in begun.values():
        process.kill()
        process.wait()


@pytest.mark.timeout(180)
def test_they_are_selected_by_config_string(outside, tmp_path):
    (tmp_path / "use.py").write_text(USE)
    said = quietly(outside, "-W", "error", "use.py", cwd=tmp_path)
    assert said.split() == ["10", "completed", "pyworkflow_files", "pyworkflow_threads", "pyworkflow_fibonacci"]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", NAMES)
def test_their_own_suites_pass_there(suites, name):
    folder, process = suites[name]
    assert process.wait() == 0, (folder / "log").read_text()[-5000:]
    report = json.loads((folder / "report.json").read_text())
    assert report["classes"]
    assert all(found["cases"] and not found["failed"] for found in report["classes"])


def test_the_core_wheel_has_the_templates_of_new_plugins(outside):
    templates = CORE / "src" / "pyworkflow" / "cli" / "templates"
    (wheel,) = outside.parents[2].glob("dist/pyworkflow_core-*.whl")
    there = {str(file.relative_to(CORE / "src")) for file in templates.rglob("*.txt")}
    assert there
    assert there <= set(zipfile.ZipFile(wheel).namelist())


@pytest.mark.parametrize("name", NAMES)
def test_nothing_private_is_imported(name):
    for file in (ROOT / "examples" / "plugins" / name).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [
                part for name in names for part in name.split(".") if part.startswith("_") and part != "__future__"
            ]


def private_names(file: Path) -> set[str]:
    """The attributes beginning with an underscore that a file uses."""
    attributes = {node.attr for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Attribute)}
    return {name for name in attributes if name.startswith("_") and not name.startswith("__")}


def test_the_runtime_uses_nothing_private_of_its_base():
    (ours,) = (ROOT / "examples" / "plugins").glob("*/src/pyworkflow_threads/runtime.py")
    assert private_names(ours)
    assert private_names(ours) & private_names(CORE / "src" / "pyworkflow" / "engine" / "runtime.py") == set()


def test_they_are_three_distributions_of_their_own():
    assert NAMES == ["pyworkflow-fibonacci", "pyworkflow-files", "pyworkflow-threads"]
    for plugin in PLUGINS:
        project = tomllib.loads((plugin / "pyproject.toml").read_text())["project"]
        module = plugin.name.replace("-", "_")
        assert (project["name"], *project["entry-points"]["pyworkflow"].values()) == (plugin.name, f"{module}.hooks")
