"""The command line on a SQLite file: hooks, and runs as files."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pyworkflow import App
from pyworkflow.testing.until import until

MODULE = """
import pyworkflow

@pyworkflow.step(name="cli.note")
async def note(text: str) -> str:
    return text

@pyworkflow.workflow(name="cli.asking", durable=True)
async def asking(token: str) -> str:
    await note("begun")
    answer = await pyworkflow.hook("answer", int, token=token)
    return await note(f"{answer} it is")
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with a module and a run of it, parked on a hook."""
    (tmp_path / "shop.py").write_text(MODULE)
    spec = importlib.util.spec_from_file_location("shop", tmp_path / "shop.py")
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.asking.registry.workflows.pop("cli.asking")
    module.asking.registry.steps.pop("cli.note")
    module.asking.registry.add_workflow(module.asking)
    module.asking.registry.add_step(module.note)

    async def start() -> None:
        async with App(storage=f"sqlite:///{tmp_path}/runs.db") as app:
            await app.start(module.asking, ("t-1",), run_id="r-1")
            await until(lambda: app.recorded().hooks())

    asyncio.run(start())
    module.asking.registry.workflows.pop("cli.asking")
    module.asking.registry.steps.pop("cli.note")
    return tmp_path


def command(folder: Path, *words: str, storage: str = "runs.db") -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "pyworkflow", "--storage", f"sqlite:///{storage}", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=50,
        check=False,
    )
    return done.returncode, done.stdout.decode()


def test_open_hooks_are_listed_without_their_tokens(shop: Path) -> None:
    code, text = command(shop, "hooks", "list", "--json")
    assert code == 0
    (found,) = json.loads(text)
    assert (found["run"], found["name"], found["many"]) == ("r-1", "answer", False)
    assert "t-1" not in text


def test_a_hook_is_resumed_and_the_run_goes_on(shop: Path) -> None:
    code, text = command(shop, "hooks", "resume", "t-1", "42", "-m", "shop.py")
    assert (code, "r-1" in text) == (0, True)
    code, text = command(shop, "run", "shop:asking", "--run-id", "r-1")
    assert (code, "42 it is" in text) == (0, True), text


def test_a_payload_of_the_wrong_type_is_refused(shop: Path) -> None:
    code, text = command(shop, "hooks", "resume", "t-1", "many", "-m", "shop.py")
    assert (code, "'answer'" in text) == (2, True), text


def test_a_payload_for_a_workflow_that_is_not_known_names_it(shop: Path) -> None:
    code, text = command(shop, "hooks", "resume", "t-1", "42")
    assert (code, "cli.asking" in text) == (2, True), text


def test_a_wrong_token_is_refused(shop: Path) -> None:
    code, text = command(shop, "hooks", "resume", "wrong", "1")
    assert (code, "no hook takes payloads" in text) == (2, True)


def test_a_timeline_shows_an_open_hook(shop: Path) -> None:
    code, text = command(shop, "runs", "show", "r-1")
    assert code == 0
    assert "hook answer" in text
    assert "waiting" in text


def test_no_secret_is_in_a_printed_history(shop: Path) -> None:
    code, text = command(shop, "runs", "history", "r-1", "--json")
    assert (code, json.loads(text)["events"][0]["seed"]) == (0, "")


def test_a_run_goes_on_in_another_storage(shop: Path) -> None:
    assert command(shop, "runs", "export", "r-1", "-o", "run.json", "--move")[0] == 0
    assert stat.S_IMODE((shop / "run.json").stat().st_mode) == 0o600
    code, text = command(shop, "runs", "import", "run.json", storage="other.db")
    assert (code, "running" in text) == (0, True), text
    assert command(shop, "hooks", "resume", "t-1", "7", "-m", "shop.py", storage="other.db")[0] == 0
    code, text = command(shop, "run", "shop:asking", "--run-id", "r-1", storage="other.db")
    assert (code, "7 it is" in text) == (0, True), text
    code, text = command(shop, "runs", "show", "r-1")
    assert "exported to go on elsewhere" in text


def test_histories_are_replayed_against_the_code(shop: Path) -> None:
    assert command(shop, "runs", "export", "r-1", "-o", "run.json")[0] == 0
    assert command(shop, "replay", "shop.py:asking", "run.json")[0] == 0
    (shop / "shop.py").write_text(MODULE.replace('await note("begun")', 'await note("changed")'))
    code, text = command(shop, "replay", "shop.py:asking", "run.json")
    assert (code, "recorded as step cli.note" in text) == (1, True), text
