"""What the README shows works: its Python examples run, its commands are typed, the files it names exist."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
CONSOLE = [line for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
COMMANDS = [line.removeprefix("$ ").partition("  #")[0].strip() for line in CONSOLE if line.startswith("$ ")]
OURS = [command for command in COMMANDS if command.startswith("pyworkflow ") and "celery" not in command][:4]
ON_CELERY = [command for command in COMMANDS if command.startswith("pyworkflow ") and "celery" in command]
ON_AWS = [command for command in COMMANDS if command.startswith(("pyworkflow dev ", "pyworkflow run shop.py:"))]
DEPLOYING = [command for command in COMMANDS if command.startswith("pyworkflow deploy")]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PYWORKFLOW_")}


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def words(command: str) -> list[str]:
    """The command, to be run by this interpreter."""
    return [sys.executable, "-m", *command.split()]


def shop(folder: Path) -> Path:
    (folder / "shop.py").write_text(PYTHON[0])
    return folder


def test_there_is_something_to_try():
    assert PYTHON
    assert [command.split()[1] for command in OURS] == ["run", "runs", "runs", "worker"]


@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_a_python_example_runs(tmp_path, number):
    (tmp_path / "example.py").write_text(PYTHON[number])
    done = run(tmp_path, sys.executable, "example.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, "receipt for the payment for o-1\n", "")


def test_the_first_minute_goes_as_told(tmp_path):
    start, look, show, work = OURS
    shop(tmp_path)
    with subprocess.Popen(words(start), cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as killed:
        assert killed.stderr.readline() == "run order-1 in sqlite:///pyworkflow.db\n"
        while charged(tmp_path / "pyworkflow.db") == 0:
            time.sleep(0.01)
        killed.send_signal(signal.SIGKILL)
    assert run(tmp_path, *words(start)).stdout == "receipt for the payment for o-1\n"
    assert charged(tmp_path / "pyworkflow.db") == 1
    listed = run(tmp_path, *words(look)).stdout
    assert re.search(r"order-1 +checkout +completed", listed)
    shown = run(tmp_path, *words(show)).stdout
    assert re.search(r'1 +charge_card\("o-1"\).* done', shown)
    assert re.search(r"2 +sleep 5s .* done", shown)
    with subprocess.Popen(words(work), cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as worker:
        assert worker.stderr.readline().startswith("working on sqlite:///pyworkflow.db: checkout")
        worker.send_signal(signal.SIGTERM)
        assert worker.stderr.read().endswith("stopped\n")
    assert worker.returncode == 0


def charged(database: Path) -> int:
    """How often the result of charging the card is recorded."""
    if not database.exists():
        return 0
    connection = sqlite3.connect(database)
    try:
        rows = connection.execute("select data from events").fetchall()
    except sqlite3.OperationalError:  # not made yet
        rows = []
    finally:
        connection.close()
    return sum(data.count('"payment for o-1"') > 0 and '"completed"' in data for (data,) in rows)


def test_it_goes_on_celery_as_told(tmp_path):
    work, start, look = ON_CELERY
    shop(tmp_path)
    with subprocess.Popen(
        words(work), cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as worker:
        done = run(tmp_path, *words(start))
        worker.send_signal(signal.SIGTERM)
    assert done.stdout == "receipt for the payment for o-2\n", done.stderr
    assert "checkout  completed" in run(tmp_path, *words(look)).stdout


def test_it_goes_on_a_lambda_of_ones_own_machine_as_told(tmp_path):
    serve, start = ON_AWS
    shop(tmp_path)
    with subprocess.Popen(
        words(f"{serve} --port 0 --skip-time"), cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    ) as lambdas:
        try:
            exported = {}
            while "AWS_SECRET_ACCESS_KEY" not in exported:
                line = lambdas.stdout.readline()
                assert line, "it ended before it said what to export"
                if line.startswith("export "):
                    name, _, value = line.removeprefix("export ").strip().partition("=")
                    exported[name] = value
            done = subprocess.run(
                words(start), cwd=tmp_path, env=ENVIRONMENT | exported, capture_output=True, text=True, check=False
            )
        finally:
            lambdas.send_signal(signal.SIGTERM)
    assert done.stdout == "receipt for the payment for o-3\n", done.stderr
    assert re.fullmatch(r"run [0-9a-f-]{36} in AWS's history of function 'shop'\n", done.stderr)


@pytest.mark.parametrize("command", DEPLOYING)
def test_a_command_to_deploy_has_options_that_exist(tmp_path, command):
    usage = run(tmp_path, *words("pyworkflow deploy --help")).stdout
    assert [word for word in command.split() if word.startswith("--") and word not in usage] == []


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in {*OURS, *ON_CELERY, *ON_AWS, *DEPLOYING}])
def test_a_command_that_sets_up_names_what_exists(command):
    program, *rest = shlex.split(command)
    if (program, rest[0]) == ("python3", "dev.py"):
        usage = run(ROOT, sys.executable, "dev.py", "--help").stdout
        assert re.search(rf"^  {rest[1]} ", usage, re.MULTILINE)
        return
    assert (program, rest[0]) == ("pip", "install"), "a command that no test knows"
    for part in (word for word in rest[1:] if word.startswith("./")):
        folder, _, extras = part.rstrip("]").partition("[")
        project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
        assert set(filter(None, extras.split(","))) <= set(project.get("optional-dependencies", {}))


LINKED = re.findall(r"\]\(([^)#:]+)\)|`((?:packages|tests)/[\w/.-]+\.py)`", README)


@pytest.mark.parametrize("link", sorted(set(LINKED)), ids=str)
def test_what_is_linked_exists(link):
    assert (ROOT / "".join(link)).exists()


def test_the_promised_tests_exist():
    named = set(re.findall(r"`(?:[\w/.-]*/)?(test_\w+\.py)`", README))
    assert named
    places = ("packages/*/tests/**", "tests/**")
    assert named <= {path.name for place in places for path in ROOT.glob(f"{place}/test_*.py")}


def test_the_demonstration_keeps_its_word(tmp_path):
    done = run(ROOT, sys.executable, "examples/payment_demo.py", str(tmp_path / "shop.db"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kill -9" in done.stdout
    assert re.search(r"Calls over both processes: reserve_stock x 1, charge_card x 2, pack x [1-4], ", done.stdout)


def test_the_goals_are_shown_as_they_were_measured():
    measured = (ROOT / "benchmarks" / "results" / "latest.md").read_text()
    table = measured.partition("## Goals\n\n")[2].partition("\n\n")[0]
    assert table.count("\n") > 20
    assert table in README
