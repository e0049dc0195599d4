"""The command line, as it is typed: real processes on a SQLite file, their output and their exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from pyworkflow.app import default_app
from pyworkflow.cli.root import cli

SHOP = """
import os
from pyworkflow import sleep, step, workflow


@step(retries=0)
def charge(order: str, amount: int = 5) -> str:
    if order == "poor":
        raise ValueError("no money")
    return f"{order} paid {amount}"


@workflow(durable=True)
async def checkout(order: str, amount: int = 5) -> str:
    return await charge(order, amount)


@workflow(durable=True)
async def waits(order: str) -> str:
    paid = await charge(order)
    await sleep("1h")
    return paid


@workflow
async def light(order: str) -> dict[str, str]:
    return {"order": order}
"""

Typed = Callable[..., subprocess.CompletedProcess[str]]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PYWORKFLOW_")}


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "pyworkflow", *words]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


@pytest.fixture
def typed(shop: Path) -> Typed:
    """Type a command in the folder of the shop, and wait for its end."""

    def typed(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command(*words), cwd=shop, env=ENVIRONMENT, capture_output=True, text=True, check=False)

    return typed


def begun(folder: Path, *words: str) -> subprocess.Popen[str]:
    """Type a command that goes on; return once it has said something."""
    process = subprocess.Popen(command(*words), cwd=folder, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    process.first = process.stderr.readline()
    return process


def ended(process: subprocess.Popen[str], number: int) -> tuple[int, str]:
    """Send a signal; return the exit code, and what was said until then."""
    with process:
        process.send_signal(number)
        said = process.stderr.read()
    return process.returncode, process.first + said


def a_waiting_run(folder: Path) -> None:
    """Leave the run 'w' behind, asleep, as its process was killed."""
    process = begun(folder, "run", "shop:waits", "o-1", "--run-id", "w")
    connection = sqlite3.connect(folder / "pyworkflow.db")
    while connection.execute("select sum(n) from events").fetchone()[0] < 4:  # started, a step, its result, the sleep
        time.sleep(0.01)
    connection.close()
    assert ended(process, signal.SIGKILL)[0] == -signal.SIGKILL


# -- run -----------------------------------------------------------------------------------------------------


def test_a_result_goes_to_standard_output_and_all_else_to_standard_error(typed):
    done = typed("run", "shop:checkout", "o-1", "-k", "amount=7", "--run-id", "r")
    assert (done.returncode, done.stdout, done.stderr) == (0, "o-1 paid 7\n", "run r in sqlite:///pyworkflow.db\n")


def test_a_result_is_json_for_programs(typed):
    assert json.loads(typed("run", "shop:light", "o-1", "--json").stdout) == {"order": "o-1"}


def test_a_run_typed_again_gives_the_same_result_and_does_nothing_again(typed):
    first = typed("run", "shop:checkout", "o-1", "--run-id", "r")
    assert typed("run", "shop:checkout", "o-1", "--run-id", "r").stdout == first.stdout
    assert json.loads(typed("runs", "show", "r", "--json").stdout)["events"] == 4
    other = typed("run", "shop:checkout", "o-2", "--run-id", "r")
    assert other.returncode == 2
    assert "with other arguments" in other.stderr


def test_a_failed_run_is_exit_code_1_and_says_where_to_look(typed):
    done = typed("run", "shop:checkout", "poor", "--run-id", "r")
    assert (done.returncode, done.stdout) == (1, "")
    assert "run r failed: ValueError: no money\nsee: pyworkflow runs show r\n" in done.stderr
    shown = typed("runs", "show", "r").stdout
    assert "ValueError: no money" in shown


@pytest.mark.parametrize(
    "words, said",
    [
        (("run", "shop:chekout", "o-1"), "no workflow 'chekout' in 'shop' (did you mean 'checkout'?)"),
        (("run", "shop:checkout"), "missing a required argument: 'order'"),
        (
            ("run", "shop:checkout", "o", "much"),
            "argument 'amount' of workflow 'checkout': does not fit its annotation int",
        ),
        (("run", "nowhere:x"), "there is no module 'nowhere'"),
        (("--storage", "sqlit:///x.db", "runs", "list"), "there is no storage 'sqlit' (did you mean 'sqlite'?)"),
        (("runs", "show", "nothing"), "there is no run 'nothing' in pyworkflow.db"),
        (("rums", "list"), "there is no command 'rums' (did you mean 'runs'?)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_typed_wrong_is_exit_code_2_and_one_sentence(typed, words, said):
    done = typed(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_an_interrupted_run_says_how_to_go_on_and_is_exit_code_130(shop):
    code, said = ended(begun(shop, "run", "shop:waits", "o-1", "--run-id", "w"), signal.SIGINT)
    assert code == 130
    assert "Resume it: pyworkflow run shop:waits --run-id w" in said


def test_a_run_whose_code_was_changed_is_exit_code_3_until_the_code_is_back(shop, typed):
    (shop / "shop.py").write_text(code := SHOP.replace('"1h"', '"3s"'))
    a_waiting_run(shop)
    (shop / "shop.py").write_text(code.replace("paid = await charge(order)", "paid = await charge(order, 9)"))
    done = typed("run", "shop:waits", "--run-id", "w")
    assert done.returncode == 3
    assert "shop.py" in done.stderr
    assert "pyworkflow runs retry w" in done.stderr
    (shop / "shop.py").write_text(code)
    assert typed("runs", "retry", "w").returncode == 0
    done = typed("run", "shop:waits", "--run-id", "w")
    assert (done.returncode, done.stdout) == (0, "o-1 paid 5\n")


# -- runs ----------------------------------------------------------------------------------------------------


def test_runs_are_listed_newest_first_and_by_status(typed):
    for run_id, order in [("a", "o-1"), ("b", "poor")]:
        typed("run", "shop:checkout", order, "--run-id", run_id)
    rows = typed("runs", "list").stdout.splitlines()
    assert [row.split()[:3] for row in rows[1:]] == [["b", "checkout", "failed"], ["a", "checkout", "completed"]]
    page = json.loads(typed("runs", "list", "--status", "failed", "--json").stdout)
    assert [run["id"] for run in page["runs"]] == ["b"]


def test_where_there_are_no_runs_it_says_where_it_looked(typed):
    done = typed("runs", "list")
    assert (done.returncode, done.stdout) == (0, "")
    assert "no such runs in sqlite:///pyworkflow.db" in done.stderr


def test_a_run_is_shown_as_a_timeline_and_by_its_events(typed):
    typed("run", "shop:checkout", "o-1", "--run-id", "order-1")
    shown = typed("runs", "show", "order").stdout
    assert re.search(r'order-1  checkout\("o-1"\)  completed', shown)
    assert re.search(r'1  charge\("o-1", 5\).* done', shown)
    history = json.loads(typed("runs", "history", "order-1", "--json").stdout)
    assert history["run"]["status"] == "completed"
    assert len(history["events"]) == 4
    assert "run completed" in typed("runs", "history", "order-1").stdout


def test_a_cancelled_run_is_exit_code_4(shop, typed):
    process = begun(shop, "run", "shop:waits", "o-1", "--run-id", "w")
    assert typed("runs", "cancel", "w", "--reason", "closed").returncode == 0
    with process:
        said = process.stderr.read()
    assert process.returncode == 4
    assert "run 'w' was cancelled" in said
    assert "closed" in typed("runs", "show", "w").stdout
    assert typed("runs", "cancel", "w").returncode == 2


def test_ended_runs_are_purged_and_open_ones_are_kept(shop, typed):
    typed("run", "shop:checkout", "o-1", "--run-id", "r")
    a_waiting_run(shop)
    asked = typed("runs", "purge", "--before", "0s")
    assert asked.returncode == 2
    assert "say --yes" in asked.stderr
    assert "1 run deleted" in typed("runs", "purge", "--before", "0s", "--yes").stderr
    assert [row.split()[0] for row in typed("runs", "list").stdout.splitlines()[1:]] == ["w"]


def test_cancelling_a_blocked_run_says_how_it_can_end(shop, typed):
    (shop / "shop.py").write_text("import asyncio\n" + SHOP.replace('sleep("1h")', "asyncio.Event().wait()"))
    assert typed("run", "shop:waits", "o-1", "--run-id", "b").returncode == 3
    assert "`pyworkflow runs terminate b` ends it now" in typed("runs", "cancel", "b").stderr
    assert typed("runs", "terminate", "b").returncode == 0


def test_a_run_that_is_blocked_while_a_command_waits_is_reported_once(shop, typed):
    a_waiting_run(shop)
    (shop / "shop.py").write_text(SHOP.replace("await charge(order)\n", "await charge(order, 7)\n"))
    assert typed("runs", "cancel", "w").returncode == 0  # which the changed code sees when it is replayed
    waited = typed("run", "shop:waits", "o-1", "--run-id", "w")
    assert waited.returncode == 3
    assert waited.stderr.count("is blocked: ") == 1, waited.stderr


def test_the_argument_that_does_not_fit_is_named_and_not_another_one(shop, typed):
    lines = "\n\n@workflow\nasync def listed(items: list[dict[str, int]], amount: int = 1) -> int:\n    return amount\n"
    (shop / "shop.py").write_text(SHOP + lines)
    refused = typed("run", "shop:listed", '[{"tea": 1}]', "twenty")
    assert "argument 'amount' of workflow 'listed'" in refused.stderr
    refused = typed("run", "shop:listed", '[{"tea": "one"}]')
    assert "argument 'items'" in refused.stderr
    assert "expected int, got 'one' at $[0]['tea']" in refused.stderr


def test_an_age_that_is_none_is_refused_with_examples(shop, typed):
    refused = typed("runs", "purge", "--before", "yesterday", "--yes")
    assert refused.returncode == 2
    assert "--before yesterday: give an age such as 30d or 12h, or a date such as 2026-01-31" in refused.stderr


def test_a_run_that_went_on_as_a_new_one_is_told_as_that_one(shop, typed):
    lines = """

@workflow(durable=True)
async def chained(n: int) -> str:
    if n:
        await pyworkflow.continue_as_new(n - 1)
    return await charge("poor")
"""
    (shop / "shop.py").write_text("import pyworkflow\n" + SHOP + lines)
    for _ in range(2):
        told = typed("run", "shop:chained", "1", "--run-id", "c")
        assert told.returncode == 1
        assert "run c~2 failed: ValueError: no money" in told.stderr
        assert "runs show c~2" in told.stderr
    assert "goes on as  c~2" in typed("runs", "show", "c").stdout


def test_a_chain_that_was_left_goes_on_by_the_id_it_began_with(shop, typed):
    lines = """

@workflow(durable=True)
async def chained(n: int) -> str:
    if n:
        await pyworkflow.continue_as_new(n - 1)
    await sleep("3s")
    return "rested"
"""
    (shop / "shop.py").write_text("import pyworkflow\n" + SHOP + lines)
    process = begun(shop, "run", "shop:chained", "1", "--run-id", "c")
    while typed("runs", "history", "c~2").stdout.count("requested") < 1:
        pass
    ended(process, signal.SIGKILL)
    assert typed("run", "shop:chained", "--run-id", "c").stdout == "rested\n"


# -- worker, plugins, completion -----------------------------------------------------------------------------


def test_a_worker_carries_on_what_a_killed_process_left_and_ends_at_sigterm(shop, typed):
    (shop / "shop.py").write_text(SHOP.replace('"1h"', '"5s"'))
    a_waiting_run(shop)
    worker = begun(shop, "worker", "shop")
    assert worker.first.startswith("working on sqlite:///pyworkflow.db: checkout, light, waits")
    shown = typed("runs", "show", "w", "--follow")
    assert shown.returncode == 0
    assert "completed" in shown.stdout
    code, said = ended(worker, signal.SIGTERM)
    assert code == 0
    assert said.endswith("stopped\n")


def test_a_worker_says_which_workflows_it_leaves_to_workers_of_other_runtimes(shop, typed):
    more = '\n\n@workflow(runtime="celery")\nasync def far() -> None: ...\n'
    (shop / "shop.py").write_text(SHOP + more)
    worker = begun(shop, "worker", "shop")
    assert "checkout, light, waits; left to others: far (celery); stop" in worker.first
    ended(worker, signal.SIGTERM)


def test_a_run_that_no_worker_begins_says_how_to_start_one(shop, typed):
    (shop / "far.py").write_text(
        'from pyworkflow import workflow\n@workflow(runtime="celery")\nasync def far() -> None: ...\n'
    )
    process = begun(shop, "--runtime", "celery", "run", "far:far", "--run-id", "r")
    assert process.stderr.readline() == (
        "no worker has begun it yet; this is one: pyworkflow --runtime celery worker far\n"
    )
    code, said = ended(process, signal.SIGINT)
    assert code == 130
    assert "interrupted; run r is released" in said


def test_a_worker_that_would_do_nothing_is_refused(shop, typed):
    (shop / "far.py").write_text('from pyworkflow import workflow\n@workflow(runtime="celery")\nasync def far(): ...\n')
    refused = typed("worker", "far")
    assert refused.returncode == 2
    assert "nothing to do with far (celery); say --runtime celery" in refused.stderr


def test_plugins_are_listed_with_what_they_offer(typed):
    assert re.search(r"sqlite +pyworkflow-sqlite \S+ +storages: sqlite", typed("plugins").stdout)
    listed = json.loads(typed("plugins", "--json").stdout)
    assert listed["conflicts"] == []
    assert {"builtins", "sqlite"} <= {plugin["name"] for plugin in listed["plugins"]}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands(shop, typed, shell):
    assert "_PYWORKFLOW_COMPLETE" in typed("completion", shell).stdout
    asked = {"COMP_WORDS": "pyworkflow runs hi", "COMP_CWORD": "2", "_PYWORKFLOW_COMPLETE": "bash_complete"}
    done = subprocess.run(
        [str(Path(sys.executable).with_name("pyworkflow"))],
        cwd=shop,
        env={**ENVIRONMENT, **asked},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "history" in done.stdout


def helps(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Return the help of a command and of those below it, as wide as a terminal usually is."""
    context = click.Context(command, info_name=" ".join(("pyworkflow", *words)), terminal_width=80)
    yield " ".join(words), command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            yield from helps(command.get_command(context, name), (*words, name))


def test_every_help_can_be_read():
    default_app().plugins.commands(cli)
    found = dict(helps(cli))
    assert {"deploy", "runs explain", "schedules backfill"} <= set(found)
    for words, text in found.items():
        assert "\\b" not in text, words
        assert "..." not in text.partition("Commands:")[2], f"a summary below {words!r} is cut"


def test_the_version_is_told(typed):
    assert re.fullmatch(r"pyworkflow, version \d+\.\d+\.\d+\n", typed("--version").stdout)
