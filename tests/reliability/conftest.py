"""The servers, and where runs are carried out; nothing is started that no test asks for."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest

import pyworkflow.backends.local  # noqa: F401 -- now: Python 3.11 does not compile in two threads at once
from pyworkflow.testing.runtime_kit.workflows import note
from pyworkflow_aws.dynamodb.client import Client
from pyworkflow_aws.dynamodb.table import initialise

HERE = Path(__file__).parent
PACKAGES = HERE.parents[1] / "packages"
sys.path[:0] = [str(HERE), *(str(PACKAGES / f"pyworkflow-{name}" / "tests") for name in ("celery", "aws"))]  # servers

import ministack  # noqa: E402 -- found by the path above
from celery_servers import Redis  # noqa: E402 -- as above


@pytest.fixture
def figure() -> Callable[[str], None]:
    """Say how much was tried; ``tools/reliability.py`` makes its table of that."""

    def say(text: str) -> None:
        if "RELIABILITY_FIGURES" in os.environ:
            note(os.environ["RELIABILITY_FIGURES"], text)

    return say


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The environment of the owner of an account on an emulator of AWS."""
    folder = tmp_path / "ministack"
    folder.mkdir()
    with ministack.running(folder) as url:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        for name, value in ministack.owner(url, "300000000000", tmp_path).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it remembers whose account it was
        yield


@pytest.fixture
def new_table(aws: None) -> Callable[[str], str]:
    def make(name: str) -> str:
        client = Client(name, None, None, 1, None)
        client.open()
        initialise(client, 2, pitr=False, kms_key=None)
        client.close()
        return name

    return make


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    folder = tmp_path / "redis"
    folder.mkdir()
    server = Redis(folder)
    yield server
    server.stop()
