import contextlib
import importlib.util
import io
import marshal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import pyworkflow
from pyworkflow.errors import ConfigError
from pyworkflow_aws.deploy.bundle import requirements
from pyworkflow_aws.deploy.bundle.archive import pack
from pyworkflow_aws.deploy.bundle.build import _add, build
from pyworkflow_aws.deploy.bundle.contents import gather
from pyworkflow_aws.deploy.bundle.exclusions import Exclusions
from pyworkflow_aws.deploy.bundle.install import install
from pyworkflow_aws.deploy.bundle.own_wheels import PACKAGES
from pyworkflow_aws.deploy.bundle.platforms import Platform
from pyworkflow_aws.deploy.bundle.source import Source
from pyworkflow_aws.deploy.cloud.target import KINDS

pytestmark = pytest.mark.timeout(180)  # packages are fetched and installed

EXAMPLES = Path(__file__).parents[4] / "examples"
THIS = f"{sys.version_info.major}.{sys.version_info.minor}"
HERE = Platform(THIS, "x86_64")
ARM = Platform("3.13", "arm64")

VERSION = pyworkflow.__version__


def bundled(root, module="flows", platform=HERE, installer="uv", **patterns):
    contents = gather(root, Exclusions(**patterns))
    wanted = requirements.read(root, PACKAGES)
    return build(Source(root, module), contents, wanted, platform, installer=installer)


def names(bundle):
    return zipfile.ZipFile(io.BytesIO(bundle.data)).namelist()


def content(bundle, name):
    return zipfile.ZipFile(io.BytesIO(bundle.data)).read(name)


@pytest.fixture
def project(tmp_path):
    root = tmp_path / "project"
    root.mkdir()
    (root / "flows.py").write_text("")
    (root / "requirements.txt").write_text("")
    return root


def acme(folder, **more):
    """Make the wheel of a plugin that requires our core; *more* are files in it."""
    info = "acme-1.0.dist-info"
    needs = f"Requires-Dist: pyworkflow-core=={VERSION}"
    wheel = {
        "acme.py": b"",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n{needs}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": f"acme.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n".encode(),
    }
    (folder / "acme-1.0-py3-none-any.whl").write_bytes(pack({**wheel, **more}))


CANARIES = [".env", ".git/config", "tests/test_flows.py", "tls.key", "venv/pyvenv.cfg", "venv/lib/x.py", "a.db"]


@pytest.fixture(scope="module")
def arm(tmp_path_factory):
    """A bundle of a project with code, canaries, a compiled requirement and a plugin, for another processor."""
    root = tmp_path_factory.mktemp("project")
    for name in CANARIES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("a canary that sings\n")
    acme(root)
    (root / "bin").mkdir()
    (root / "bin" / "tool.sh").write_text("true\n")
    (root / "flows.py").write_text("def watch(boto3):\n    return boto3.client('cloudwatch')\n")
    (root / "requirements.txt").write_text("markupsafe==3.0.4\n./acme-1.0-py3-none-any.whl\npyworkflow[aws]\n")
    return bundled(root, platform=ARM)


@pytest.fixture(scope="module")
def example():
    return bundled(EXAMPLES, "shop")


@pytest.fixture(scope="module")
def unpacked(example, tmp_path_factory):
    folder = tmp_path_factory.mktemp("task")
    zipfile.ZipFile(io.BytesIO(example.data)).extractall(folder)
    return folder


# -- the example -----------------------------------------------------------------


def test_the_zip_of_the_example_has_at_most_6_mb(example):
    assert len(example.data) <= 6 << 20


IMPORTED = {
    "durable-lambda": [
        "pyworkflow_aws.handler",
        "pyworkflow_aws.durable.client.runtime",
        "pyworkflow_aws.durable.execution.function",
    ],
    "lambda": ["pyworkflow_aws.handler", "pyworkflow_aws.transient_lambda"],
}


@pytest.mark.parametrize("runtime", KINDS)
def test_the_handlers_imports_are_quick_and_need_nothing_but_the_zip(unpacked, runtime):
    """Held against what AWS's own packages take, in processor time and side by side: a machine that tests is busy."""

    def took(modules):
        code = (
            f"import sys, time; sys.path.insert(0, {str(unpacked)!r}); began = time.process_time()\n"
            f"import {', '.join(modules)}\n"
            "print(time.process_time() - began)"
        )
        command = [sys.executable, "-I", "-S", "-B", "-c", code]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    theirs = ["boto3", "botocore.session", "aws_durable_execution_sdk_python"]
    pairs = [(took(["shop", *IMPORTED[runtime]]), took(theirs)) for _ in range(7)]
    ours, without = (sorted(column)[3] for column in zip(*pairs, strict=True))
    print(f"{ours:.3f} s, {without:.3f} s of it for AWS's own packages")  # noqa: T201 -- shown when it fails
    assert ours <= max(0.35, 1.75 * without)


def test_tools_for_developers_are_left_out(example):
    tools = ("pyworkflow/cli/", "pyworkflow/testing/", "pyworkflow_aws/deploy/", "pyworkflow_aws/testing/")
    assert not any(name.startswith(tools) for name in names(example))


def test_the_byte_code_is_never_held_against_its_source_and_speaks_of_the_place_on_lambda(example):
    code = content(example, f"__pycache__/shop.{sys.implementation.cache_tag}.pyc")
    assert code[:4] == importlib.util.MAGIC_NUMBER
    assert int.from_bytes(code[4:8], "little") == 1  # by hash, unchecked
    assert marshal.loads(code[16:]).co_filename == "/var/task/shop.py"  # noqa: S302 -- made by the test itself


def test_our_own_code_comes_from_this_installation(example):
    assert content(example, "pyworkflow/__init__.py") == Path(pyworkflow.__file__).read_bytes()


def test_plugins_can_be_found_in_the_zip(example):
    assert b"pyworkflow_aws.hooks" in content(example, f"pyworkflow_aws-{VERSION}.dist-info/entry_points.txt")


def test_services_that_nobody_calls_are_left_out(example):
    services = {
        name.split("/")[2] for name in names(example) if name.startswith("botocore/data/") and name.count("/") > 2
    }
    assert {"lambda", "dynamodb", "s3", "sts"} <= services
    assert "ec2" not in services


def test_every_entry_looks_the_same_wherever_it_was_made(example):
    entries = zipfile.ZipFile(io.BytesIO(example.data)).infolist()
    assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {oct(entry.external_attr >> 16) for entry in entries} <= {"0o100644", "0o100755"}


def test_no_entry_leaves_the_folder_it_is_unpacked_into(example):
    for name in names(example):
        assert not name.startswith(("/", "\\"))
        assert not {"..", ""} & set(name.split("/"))


def test_the_same_input_makes_the_same_bytes_with_either_installer(example):
    assert bundled(EXAMPLES, "shop", installer="pip").digest == example.digest


# -- projects --------------------------------------------------------------------


def test_compiled_packages_are_those_of_the_platform_asked_for(arm):
    compiled = [name for name in names(arm) if name.endswith(".so")]
    assert compiled == ["markupsafe/_speedups.cpython-313-aarch64-linux-gnu.so"]


def test_commands_of_packages_are_dropped_and_those_of_the_user_are_not(arm):
    assert [name for name in names(arm) if name.startswith("bin/")] == ["bin/tool.sh"]


def test_services_that_the_code_names_are_kept(arm):
    assert arm.services == {"cloudwatch"}


def test_nothing_that_was_planted_is_in_the_zip(arm):
    archive = zipfile.ZipFile(io.BytesIO(arm.data))
    assert not set(CANARIES) & set(archive.namelist())
    assert not any(b"a canary that sings" in archive.read(name) for name in archive.namelist())
    assert arm.files == ("bin/tool.sh", "flows.py")


def test_a_plugin_that_requires_us_gets_us_and_not_a_namesake(arm):
    assert "acme.py" in names(arm)
    assert content(arm, "pyworkflow/__init__.py") == Path(pyworkflow.__file__).read_bytes()


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_what_cannot_be_installed_is_told_in_the_installers_words(project, installer):
    (project / "requirements.txt").write_text("markupsafe==0.0.0.1\n")
    with pytest.raises(ConfigError, match=rf"(?s)^{installer} could not install what .*txt asks for.*0\.0\.1"):
        bundled(project, installer=installer)


def test_a_package_without_a_fitting_wheel_is_refused_by_pip(project):
    wheel = project / "wheels" / "acme-1.0-cp313-cp313-macosx_11_0_arm64.whl"
    wheel.parent.mkdir()
    wheel.write_bytes(pack({"acme.py": b""}))
    (project / "requirements.txt").write_text(f"./wheels/{wheel.name}\n")
    with pytest.raises(ConfigError, match="could not install"):
        bundled(project, installer="pip")


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_a_package_that_would_write_elsewhere_does_not(project, tmp_path, installer):
    acme(project, **{"../../evil.py": b""})
    (project / "requirements.txt").write_text("./acme-1.0-py3-none-any.whl\n")
    stage = tmp_path / "below" / "stage"
    stage.mkdir(parents=True)
    with contextlib.suppress(ConfigError):  # pip refuses it, uv leaves the file out
        install(stage, requirements.read(project, PACKAGES), HERE, installer=installer)
    assert list(tmp_path.rglob("evil.py")) == []


def test_a_module_that_is_not_valid_python_is_refused(project):
    (project / "flows.py").write_text("async def broken(:\n")
    with pytest.raises(ConfigError, match=r"the module 'flows' is not valid Python .*: SyntaxError: "):
        bundled(project)


def test_hashes_need_uv(project):
    (project / "requirements.txt").write_text("markupsafe==3.0.4 --hash=sha256:00\n")
    with pytest.raises(ConfigError, match=r"has hashes, .*: install uv"):
        bundled(project, installer="pip")


def test_a_file_in_the_place_of_a_packages_is_refused(project, tmp_path):
    for root in (project, tmp_path / "stage"):
        (root / "boto3").mkdir(parents=True)
        (root / "boto3" / "__init__.py").write_text("")
    with pytest.raises(ConfigError, match=r"boto3/__init__\.py: a file of your code would take the place of one"):
        _add(gather(project, Exclusions()), tmp_path / "stage")


@pytest.mark.parametrize("mine, theirs", [("attr.py", "attr/__init__.py"), ("six/__init__.py", "six.py")])
def test_a_module_that_hides_a_package_or_is_hidden_by_one_is_refused(project, tmp_path, mine, theirs):
    for place in (project / mine, tmp_path / "stage" / theirs):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("")
    with pytest.raises(ConfigError, match="would take the place of one"):
        _add(gather(project, Exclusions()), tmp_path / "stage")


def test_a_module_that_would_stay_behind_is_refused(project):
    (project / "test_flows.py").write_text("")
    with pytest.raises(ConfigError, match=r"'test_flows' would stay behind: test_flows\.py matches 'test_\*\.py'"):
        bundled(project, "test_flows")


def test_a_part_of_us_that_is_not_installed_is_named(project, monkeypatch):
    monkeypatch.setitem(PACKAGES, "pyworkflow-acme", "pyworkflow_acme")
    (project / "requirements.txt").write_text("pyworkflow-acme==0.1.0\n")
    with pytest.raises(ConfigError, match="requires 'pyworkflow-acme', which is not installed here"):
        bundled(project)
