"""Importing the package costs little, and brings nothing that is not needed to declare workflows."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

import pytest

CLOCK = "import time; start = time.process_time()\n{}\nprint(time.process_time() - start)"


def python(code: str) -> str:
    """What *code* prints in a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def imported() -> set[str]:
    return set(json.loads(python("import pyworkflow, sys, json; print(json.dumps([*sys.modules]))")))


@pytest.mark.parametrize(
    "unwanted",
    [
        *("click", "rich", "http", "socketserver", "aiohttp", "sqlite3", "boto3", "celery", "kombu", "pytest"),
        *("pyworkflow_aws", "pyworkflow_celery", "pyworkflow_sqlite"),
    ],
)
def test_importing_the_package_imports_neither_the_command_line_nor_servers_nor_plugins(imported, unwanted):
    assert [name for name in imported if name.partition(".")[0] == unwanted] == []


def test_importing_the_package_looks_for_no_plugins(imported):
    assert imported & {"importlib.metadata", "importlib_metadata", "pluggy", "pyworkflow.plugins.manager"} == set()


def test_importing_the_package_takes_less_than_half_again_as_long_as_what_it_stands_on():
    """In processor time, which others on the machine disturb least, side by side."""
    ours, basis = [], []
    for _ in range(9):
        basis.append(float(python(CLOCK.format("import attrs, cattrs, asyncio"))))
        ours.append(float(python(CLOCK.format("import pyworkflow"))))
    ratio = statistics.median(ours) / statistics.median(basis)
    assert ratio < 1.5, f"{ours} against {basis}"
