"""`pyworkflow plugins new` begins a project that can be installed and whose tests pass."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pyworkflow.cli.root import cli

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYWORKFLOW_"))}


def run(folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=ENVIRONMENT | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def new(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(folder, "pyworkflow", "plugins", "new", *arguments)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind, cases", [("storage", 150), ("runtime", 80), ("retry-policy", 7)])
def test_the_tests_of_a_new_plugin_pass(tmp_path, kind, cases):
    made = new(tmp_path, "pyworkflow-acme-fast", "--kind", kind)
    assert made.returncode == 0, made.stderr
    project = tmp_path / "pyworkflow-acme-fast"
    install = ["pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", str(tmp_path / "site")]
    installed = run(tmp_path, *install, str(project))
    assert installed.returncode == 0, installed.stdout + installed.stderr
    done = run(project, "pytest", "-q", "-p", "no:cacheprovider", PYTHONPATH=str(tmp_path / "site"))
    assert done.returncode == 0, done.stdout[-5000:]
    (passed,) = re.findall(r"^(\d+) passed in", done.stdout, re.MULTILINE)
    assert int(passed) >= cases
    listed = run(tmp_path, "pyworkflow", "plugins", PYTHONPATH=str(tmp_path / "site")).stdout
    assert re.search(r"acme-fast +pyworkflow-acme-fast 0\.1\.0 .*: acme-fast", listed)


def test_it_says_what_it_made_and_what_is_next(tmp_path):
    said = new(tmp_path, "acme", "--into", "plugins").stdout.splitlines()
    assert sorted(said[:-1]) == sorted(
        str(path.relative_to(tmp_path)) for path in (tmp_path / "plugins" / "acme").rglob("*") if path.is_file()
    )
    assert said[-1] == 'next: pip install --editable "plugins/acme[test]" && pytest plugins/acme'


def test_what_is_there_is_left_alone(tmp_path):
    (tmp_path / "acme").mkdir()
    refused = new(tmp_path, "acme")
    assert (refused.returncode, "is there already" in refused.stderr) == (2, True)
    assert not list((tmp_path / "acme").iterdir())


@pytest.mark.parametrize(
    "name", ["Acme", "../acme", "acme_x", "-x", "", "class", "json", "pyworkflow", "pyworkflow-3d"]
)
def test_a_name_that_cannot_be_one_is_refused(tmp_path, name):
    refused = CliRunner().invoke(cli, ["plugins", "new", "--into", str(tmp_path), "--", name])
    assert (refused.exit_code, repr(name) in refused.stderr) == (2, True), refused.output
    assert not list(tmp_path.iterdir())
