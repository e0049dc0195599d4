"""A canary wherever a secret may be: it is in no log, no repr, no error and no output of the command line."""

from __future__ import annotations

import io
import logging
import traceback
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import pytest

from pyworkflow import App, hook, step, workflow
from pyworkflow.backends.memory import MemoryStorage
from pyworkflow.cli import main
from pyworkflow.config.config_string import Spec
from pyworkflow.errors import HookClosed, WorkflowError
from pyworkflow.testing.until import until

CANARY = "c4n4ry-hunter2"

CONFIG_STRINGS = [
    f"sqlite://user:{CANARY}@host/file.db",
    f"postgres://user:{CANARY}@127.0.0.1:1/db?sslmode=off",
    f"redis://:{CANARY}@127.0.0.1:1/0",
    f"amqps://user:{CANARY}@host//?heartbeat=1",
    f"dynamodb://table?region=eu-west-1&secret_access_key={CANARY}",
    f"thing?password={CANARY}&other=1",
    f"thing?api_token={CANARY}",
    f"thing?credential={CANARY}&x",
    f"thing?url=redis%3A%2F%2Fuser%3A{CANARY}%40host",
    f"thing://user:p@ss{CANARY}@host",
    f"://user:{CANARY}@host",
    f"9://user:{CANARY}@host",
    f"sqlite:///x.db?key={CANARY}&key={CANARY}",
    f"exponential?base=1s&secret={CANARY}",
]  # fmt: skip

SETTINGS = ["storage", "default_runtime", "default_retry", "celery_broker", "celery_url", "aws_secret", "no_such_key"]


def told(error: BaseException) -> str:
    return "".join(traceback.format_exception(error, chain=True)) + repr(error) + str(error)


def without_source(text: str) -> str:
    """Leave the lines of this file out of a traceback."""
    return "\n".join(line for line in text.splitlines() if "CANARY" not in line)


@pytest.mark.parametrize("config", CONFIG_STRINGS)
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_password_in_a_setting_is_never_shown(
    setting: str, config: str, caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.DEBUG)
    shown: list[Any] = []
    try:
        app = App(**{setting: config})
        shown += [app, app.settings]
        shown += [app.storage, app.runtime()]
    except WorkflowError as error:
        shown.append(without_source(told(error)))
    assert CANARY not in " ".join(f"{thing!r} {thing}" for thing in shown) + caplog.text


@pytest.mark.parametrize("config", CONFIG_STRINGS)
def test_a_password_on_the_command_line_is_never_shown(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.DEBUG)
    said = ""
    for words in (["-vv", "--storage", config, "runs", "list"], ["--runtime", config, "runs", "list"], ["plugins"]):
        monkeypatch.setenv("PYWORKFLOW_STORAGE", config)
        out = io.StringIO()
        with redirect_stdout(out), redirect_stderr(out):
            main(words)
        said += out.getvalue()
    assert CANARY not in said + caplog.text


@pytest.mark.parametrize("config", CONFIG_STRINGS)
def test_a_parsed_config_string_shows_no_password(config: str) -> None:
    try:
        shown = f"{Spec.parse(config)!r} {Spec.parse(config)}"
    except WorkflowError as error:
        shown = without_source(told(error))
    assert CANARY not in shown


@step(name="secrets.fails", retries=1, retry_delay=0.0)
async def fails(card: str) -> None:
    raise ConnectionError("the bank is away")


@workflow(name="secrets.flow")
async def flow(card: str) -> str:
    asked = hook("approval", str, token=f"token-{CANARY}")
    with suppress(ConnectionError):
        await fails(card)
    return f"{asked!r} got an answer of {len(await asked)} characters"


@pytest.mark.asyncio
async def test_arguments_payloads_results_and_tokens_are_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with App(storage=MemoryStorage(), default_durable=True) as app:
        handle = await app.start(flow, (f"card-{CANARY}",))
        await until(app.recorded().hooks)
        (opened,) = await app.recorded().hooks()
        await app.resume_hook(f"token-{CANARY}", f"payload-{CANARY}")
        result = await handle.result("20s")
        with pytest.raises(HookClosed) as closed:
            await app.resume_hook(f"token-{CANARY}", f"payload-{CANARY}")
        history = await handle.history()
    shown = f"{opened!r} {handle!r} {result} {closed.value!r} {without_source(told(closed.value))}"
    assert CANARY not in caplog.text + shown
    assert f"token-{CANARY}" not in repr(history), "only its digest is stored"


@pytest.mark.asyncio
async def test_random_tokens_have_256_bits_and_do_not_follow_from_what_is_public() -> None:
    @workflow(name="secrets.tokens")
    async def tokens() -> list[str]:
        return [hook(f"h{n}", str).token for n in range(100)]

    async with App(storage=MemoryStorage(), default_durable=True) as app:
        first = await app.call(tokens)
        second = await app.call(tokens)
    made = {*first, *second}
    assert len(made) == 200
    assert {len(token) for token in made} == {43}, "43 characters of 6 bits hold 256"
