import importlib.util
import itertools
from pathlib import Path

import boto3
import botocore.loaders
import botocore.session
import pytest

_LOADER = botocore.loaders.create_loader()
_ACCOUNTS = itertools.count(100_000_000_000)


def _beside(name):
    """Import a module of this folder: pytest imports test files by path, so that no import statement finds it."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def ministack(tmp_path_factory):
    """The URL of an emulator of AWS that lives as long as the test run."""
    with _beside("ministack").running(tmp_path_factory.mktemp("ministack")) as url:
        yield url


# moto checks conditions and writes in two steps; one request at a time makes them one.
_MOTO = """
import sys, moto.server
run = moto.server.run_simple
moto.server.run_simple = lambda *args, **options: run(*args, **{**options, "threaded": False})
moto.server.main(sys.argv[1:])
"""


@pytest.fixture(scope="session")
def moto(tmp_path_factory):
    """The URL of another emulator, a second opinion on DynamoDB."""
    started = _beside("ministack")
    python, port = started.installed(Path(__file__).with_name("moto-constraints.txt")), started.free_port()
    command = [python, "-c", _MOTO, "-H", "127.0.0.1", "-p", str(port)]
    url, folder = f"http://127.0.0.1:{port}", tmp_path_factory.mktemp("moto")
    with started.serving(command, url, "/moto-api/data.json", {}, folder) as running:
        yield running


@pytest.fixture
def aws(ministack, monkeypatch, tmp_path):
    """The environment of the owner of an empty account on the emulator; gives the number of the account."""
    account = str(next(_ACCOUNTS))
    for name, value in _beside("ministack").owner(ministack, account, tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    # A session of its own, as it remembers its account; but what describes the services is read once.
    session = botocore.session.Session()
    session.register_component("data_loader", _LOADER)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", boto3.Session(botocore_session=session))
    return account
