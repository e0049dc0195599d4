import importlib.util
import io
import sys
import zipfile

import pytest

from pyworkflow import App
from pyworkflow_aws.deploy.bundle import requirements
from pyworkflow_aws.deploy.bundle.build import build
from pyworkflow_aws.deploy.bundle.contents import gather
from pyworkflow_aws.deploy.bundle.exclusions import Exclusions
from pyworkflow_aws.deploy.bundle.own_wheels import PACKAGES
from pyworkflow_aws.deploy.bundle.platforms import Platform
from pyworkflow_aws.deploy.bundle.source import Source
from pyworkflow_aws.deploy.cloud.target import KINDS, Target
from pyworkflow_aws.testing import Endpoint, Sandboxed

pytestmark = pytest.mark.timeout(180)  # packages are fetched and installed

FLOWS = """
from pyworkflow import step, workflow

import pyworkflow


@step
async def where() -> str:
    return pyworkflow.__file__


@workflow
async def tell(greeting: str) -> list[str]:
    return [greeting, await where()]
"""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """A project as Lambda unpacks it."""
    root, task = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("task")
    (root / "flows.py").write_text(FLOWS)
    platform = Platform(f"{sys.version_info.major}.{sys.version_info.minor}", "x86_64")
    bundle = build(Source(root, "flows"), gather(root, Exclusions()), requirements.read(root, PACKAGES), platform)
    zipfile.ZipFile(io.BytesIO(bundle.data)).extractall(task)
    return task


@pytest.fixture(params=KINDS)
def app(request, unpacked, monkeypatch, tmp_path):
    """An app whose runs are carried out by the function in the zip, under AWS's own runtime client."""
    for name, value in {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}.items():
        monkeypatch.setenv(name, value)
    target = Target(name="shop", kind=KINDS[request.param], module="flows", python="3.13")
    configuration = target.configuration("role")
    function = Sandboxed(
        handler=configuration["Handler"],
        root=unpacked,
        environment=configuration["Environment"]["Variables"],
        durable=target.kind.durable,
        log=tmp_path / "log",
    )
    with Endpoint({"shop": function}) as endpoint:
        yield App(
            default_runtime=request.param, aws_endpoint_url=endpoint.url, aws_region="us-east-1", aws_function="shop"
        )


@pytest.mark.asyncio
async def test_what_is_deployed_runs_with_what_is_in_the_zip(app, unpacked):
    spec = importlib.util.spec_from_file_location("flows", unpacked / "flows.py")
    flows = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(flows)
    async with app:
        handle = await app.start(flows.tell, ["hello"])
        greeting, file = await handle.result(timeout="60s")
    assert greeting == "hello"
    assert file == str(unpacked / "pyworkflow" / "__init__.py")
