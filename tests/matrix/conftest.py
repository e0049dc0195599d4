"""Where the stories are played: servers and workers are started once, and each place is played once."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest

import pyworkflow.backends.local  # noqa: F401 -- now: Python 3.11 does not compile in two threads at once
from pyworkflow import App
from pyworkflow_aws.durable.execution.function import durable_function
from pyworkflow_aws.dynamodb.client import Client
from pyworkflow_aws.dynamodb.table import initialise
from pyworkflow_aws.testing import Endpoint, InProcess
from pyworkflow_aws.transient_lambda import run_in_function

HERE = Path(__file__).parent
PACKAGES = HERE.parents[1] / "packages"
sys.path[:0] = [str(HERE), *(str(PACKAGES / f"pyworkflow-{name}" / "tests") for name in ("celery", "aws"))]  # servers

import ministack  # noqa: E402 -- found by the path above
from celery_servers import Redis, Workers  # noqa: E402 -- as above
from matrix_places import PLACES, RETRY  # noqa: E402 -- as above
from matrix_play import Told, play  # noqa: E402 -- as above

# -- servers, workers and functions ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("matrix")


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory, scratch: Path) -> Iterator[dict[str, str]]:
    """The environment of the owner of an account on an emulator of AWS."""
    with ministack.running(tmp_path_factory.mktemp("ministack")) as url:
        yield ministack.owner(url, "300000000000", scratch)


@pytest.fixture(scope="module")
def in_aws(aws: dict[str, str]) -> Callable[[], Any]:
    """A context in which boto3 goes by that environment."""

    @contextmanager
    def inside() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
                patch.delenv(name, raising=False)
            for name, value in aws.items():
                patch.setenv(name, value)
            patch.setattr(boto3, "DEFAULT_SESSION", None)  # it remembers whose account it was
            yield

    return inside


@pytest.fixture(scope="module")
def new_table(in_aws: Callable[[], Any]) -> Callable[[str], str]:
    def make(name: str) -> str:
        with in_aws():
            client = Client(name, None, None, 1, None)
            client.open()
            initialise(client, 2, pitr=False, kms_key=None)
            client.close()
        return name

    return make


class MatrixWorkers(Workers):
    """Celery workers that know the workflows of the matrix."""

    module = "matrix_worker"
    place = HERE


@pytest.fixture(scope="module")
def celery_workers(
    tmp_path_factory: pytest.TempPathFactory, scratch: Path, aws: dict[str, str], new_table: Callable[[str], str]
) -> Iterator[dict[str, dict[str, str]]]:
    """Workers on each storage; gives the settings of who starts runs for them."""
    redis = Redis(tmp_path_factory.mktemp("redis"))
    storages = {
        "sqlite": f"sqlite:///{scratch}/celery.db",
        "dynamodb": f"dynamodb://{new_table('celery')}",
        "none": f"sqlite:///{scratch}/unused.db",  # for workers to whom workflows are transient
    }
    settings, launched = {}, []
    for number, (name, storage) in enumerate(storages.items()):
        settings[name] = {
            "storage": storage,
            "default_runtime": "celery",
            "celery_broker": redis.url(2 * number),
            "celery_result_backend": redis.url(2 * number + 1),
        }
        mode = {"default_durable": "false"} if name == "none" else {}
        workers = MatrixWorkers(tmp_path_factory.mktemp(name), default_retry=RETRY, **settings[name], **mode)
        launched.append((workers, workers.launch("--pool", "threads", "--concurrency", "8", **aws)))
        if name == "sqlite":
            launched.append((workers, workers.launch("--pool", "prefork", "--concurrency", "2")))
    for workers, process in launched:
        workers.ready(process)
    yield settings
    for workers, _ in launched:
        workers.close()
    redis.stop()


@pytest.fixture(scope="module")
def functions() -> Iterator[dict[str, dict[str, str]]]:
    """Functions of a local Lambda, by runtime; gives the settings of who invokes them."""
    with Endpoint() as endpoint:
        common = {"aws_endpoint_url": endpoint.url, "aws_region": "us-east-1", "default_retry": RETRY}
        settings = {
            name: {**common, "default_runtime": name, "aws_function": f"m-{name}"}
            for name in ("durable-lambda", "lambda")
        }
        serving = App(**settings["durable-lambda"])
        runtime: Any = serving.runtime()
        endpoint.functions["m-durable-lambda"] = InProcess(durable_function(serving, runtime.settings, runtime.clients))
        plain = App(default_retry=RETRY)
        plain.runtime("local")
        endpoint.functions["m-lambda"] = InProcess(
            lambda event, context: run_in_function(plain, event, context), durable=False
        )
        yield settings


# -- playing ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def told(request: pytest.FixtureRequest, scratch: Path, in_aws: Callable[[], Any]) -> Callable[[str], dict[str, Told]]:
    """Return what came of the stories at a place; each place is played once."""
    known: dict[str, dict[str, Told]] = {}

    def tell(name: str) -> dict[str, Told]:
        if name not in known:
            place, folder = PLACES[name], scratch / name
            folder.mkdir()
            with in_aws():
                app = App(**{"default_retry": RETRY, **place.settings(request)})
                known[name] = asyncio.run(play(app, place.stories(), folder, recorded=place.recorded))
        return known[name]

    return tell
