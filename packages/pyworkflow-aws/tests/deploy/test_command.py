import io
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import boto3
import pytest

from pyworkflow.app import set_default_app
from pyworkflow.cli import main
from pyworkflow_aws.deploy import deployment
from pyworkflow_aws.deploy.bundle.archive import pack
from pyworkflow_aws.deploy.bundle.build import Bundle

FLOWS = "from pyworkflow import workflow\n\n\n@workflow\nasync def hello() -> str:\n    return 'hello'\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    root = tmp_path / "project"
    root.mkdir()
    (root / "flows.py").write_text(FLOWS)
    (root / "requirements.txt").write_text("")
    (root / ".env").write_text("KEY=hunter2\n")
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def quick(project, monkeypatch):
    """Bundles that nothing is installed into."""

    def build(_source, contents, _requirements, _platform, **_options):
        data = pack(dict(contents.files))
        return Bundle(data, tuple(contents.files), contents.left_out, {}, frozenset(), 1, True, "uv", "nothing")

    monkeypatch.setattr(deployment, "build", build)
    return project


@pytest.fixture
def lines(capsys):
    """Runs the command line and returns its exit code, and what it printed to standard output and error."""

    def run(*arguments):
        set_default_app(None)  # as in a new process
        code = main(list(arguments))
        captured = capsys.readouterr()
        return code, captured.out.splitlines(), captured.err.splitlines()

    before = set_default_app(None)
    yield run
    set_default_app(before)


def functions():
    return [one["FunctionName"] for one in boto3.client("lambda").list_functions()["Functions"]]


@pytest.mark.timeout(180)  # it installs twice
def test_from_nothing_to_a_function_and_back(aws, project):
    """Everything real: the installed command, the installer, and the emulator of AWS."""
    command = [sys.executable, "-m", "pyworkflow", "deploy"]

    def run(*arguments, typed=""):
        done = subprocess.run([*command, *arguments], input=typed, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "create the function" in run("flows", "--name", "hello", typed="y\n")
    assert run("flows.py", "--name", "hello").splitlines()[-1].startswith("nothing to do: 'hello' in eu-west-1")
    code = boto3.client("lambda").get_function(FunctionName="hello", Qualifier="live")["Configuration"]
    assert code["Handler"] == "pyworkflow_aws.handler.durable"
    assert "to be deleted in eu-west-1" in run("--name", "hello", "--destroy", typed="hello\n")
    assert functions() == []


def test_a_plan_touches_nothing_and_prints_what_would_change_and_what_goes_in(aws, quick, lines, monkeypatch):
    changing = []
    monkeypatch.setattr(deployment.Deployer, "apply", changing.append)
    code, out, _ = lines("deploy", "flows", "--name", "shop", "--plan", "--env", "KEY=hunter2")
    assert code == 0
    assert changing == functions() == []
    assert "  flows.py" in out
    assert "  .env (.*)" in out
    assert "  create the function" in out
    assert "      + variable KEY" in out
    assert not any("hunter2" in line for line in out)


def test_a_plan_for_what_exists_shows_the_difference(aws, quick, lines):
    lines("deploy", "flows", "--name", "shop", "--yes")
    (quick / "flows.py").write_text(FLOWS.replace("hello", "goodbye"))
    _, out, _ = lines("deploy", "flows", "--name", "shop", "--memory", "1024", "--plan")
    assert out[out.index(f"'shop' in eu-west-1, account {aws}:") :] == [
        f"'shop' in eu-west-1, account {aws}:",
        "  replace the code (arm64)",
        "  change the configuration",
        "      ~ memory: 512 MB -> 1024 MB",
        "  publish a version",
        "  move the alias live: version 1 -> just published",
    ]


def test_progress_is_told_step_by_step(aws, quick, lines):
    code, out, err = lines("deploy", "flows", "--name", "shop", "--yes")
    assert (code, out[-1]) == (0, "deployed: shop:live in eu-west-1")
    assert err == [
        "create the log group /aws/lambda/shop",
        "keep the logs in /aws/lambda/shop for 30 days",
        "create the role pyworkflow-shop-eu-west-1",
        "set the policy of the role pyworkflow-shop-eu-west-1",
        "create the function",
        "publish a version",
        "create the alias live -> version just published",
    ]


def test_without_a_yes_nothing_is_done(aws, quick, lines, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    code, _, _ = lines("deploy", "flows", "--name", "shop")
    assert (code, functions()) == (130, [])


def test_what_aws_refuses_ends_with_1_and_a_sentence(aws, quick, lines, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    code, out, err = lines("deploy", "flows", "--name", "shop", "--yes")
    assert (code, out) == (1, [])
    assert len(err) == 1
    assert err[0].startswith("pyworkflow: there are no AWS credentials")


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--name", "shop"], "say which MODULE to deploy"),
        (["flowz", "--name", "shop"], "there is no module 'flowz'"),
        (["flows", "--name", "shop", "--runtime", "local"], "there is no runtime 'local'"),
        (["flows", "--name", "shop", "--env", "NOT_THERE"], "write NOT_THERE=VALUE"),
        (["flows", "--name", "shop", "--policy", "nope.json"], "--policy nope.json cannot be read"),
        (["flows", "--name", "shop", "--destroy", "--plan"], "--destroy goes neither with"),
    ],
)
def test_wrong_usage_ends_with_2(aws, quick, lines, arguments, said):
    code, _, err = lines("deploy", *arguments)
    assert code == 2
    assert said in "\n".join(err)


def test_patterns_of_the_project_and_of_the_command_line_add_up(aws, quick, lines, monkeypatch):
    for name in ("big.bin", "notes.txt"):
        Path(name).write_text("")
    monkeypatch.setenv("PYWORKFLOW_DEPLOY_EXCLUDE", "*.bin")
    _, out, _ = lines("deploy", "flows", "--name", "shop", "--plan", "--exclude", "notes.txt")
    assert {"  big.bin (*.bin)", "  notes.txt (notes.txt)"} <= set(out)


# -- files instead of an account -------------------------------------------------


@pytest.fixture
def written(quick, lines, tmp_path):
    """What ``--output`` writes, without any account."""
    code, _, _ = lines(
        *("deploy", "flows", "--name", "shop", "--output", str(tmp_path / "out"), "--env", "KEY=hunter2"),
    )
    assert code == 0
    return tmp_path / "out"


def test_the_output_is_a_zip_a_template_and_policies(written):
    assert sorted(path.name for path in written.iterdir()) == [
        "callers-policy.json",
        "role-policy.json",
        "shop.zip",
        "template.json",
    ]
    assert zipfile.ZipFile(written / "shop.zip").namelist() == ["flows.py"]


def test_no_secret_is_written(written):
    assert not any(b"hunter2" in path.read_bytes() for path in written.iterdir())


def test_the_template_makes_the_function_that_a_deployment_makes(aws, quick, lines, written):
    """AWS's own translator turns it into CloudFormation, and the emulator carries that out."""
    text = (written / "template.json").read_text()
    s3, stacks = boto3.client("s3"), boto3.client("cloudformation")
    s3.create_bucket(Bucket="artefacts", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.upload_file(str(written / "shop.zip"), "artefacts", "shop.zip")
    stacks.create_stack(
        StackName="shop",
        TemplateBody=text.replace('"shop.zip"', '"s3://artefacts/shop.zip"'),  # what `sam deploy` does
        Parameters=[{"ParameterKey": "Variable1", "ParameterValue": "hunter2"}],
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
    )
    stacks.get_waiter("stack_create_complete").wait(StackName="shop", WaiterConfig={"Delay": 0.1})
    by_template = live("shop")
    lines("deploy", "flows", "--name", "straight", "--env", "KEY=hunter2", "--yes")
    assert by_template == live("straight")
    # The emulator's CloudFormation drops what it does not know.
    processed = stacks.get_template(StackName="shop", TemplateStage="Processed")["TemplateBody"]
    function = processed["Resources"]["Function"]["Properties"]
    assert function["DurableConfig"] == {"ExecutionTimeout": 366 * 86400, "RetentionPeriodInDays": 30}


def live(name):
    """The configuration of a function's live version and what its role may do, whatever its name."""
    lambda_, iam = boto3.client("lambda"), boto3.client("iam")
    function = lambda_.get_function(FunctionName=name, Qualifier="live")["Configuration"]
    kept = ("Runtime", "Handler", "Timeout", "MemorySize", "Environment", "LoggingConfig")
    role = function["Role"].rpartition("/")[2]
    policy = iam.get_role_policy(RoleName=role, PolicyName="pyworkflow")["PolicyDocument"]
    assert iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"] == []
    return json.loads(json.dumps([{key: function[key] for key in kept}, policy]).replace(name, "NAME"))


# -- taking away -----------------------------------------------------------------


def test_destroy_takes_away_all_that_was_made(aws, quick, lines):
    lines("deploy", "flows", "--name", "shop", "--yes")
    code, out, _ = lines("deploy", "--name", "shop", "--destroy", "--yes")
    assert (code, out[-1]) == (0, "deleted: shop")
    assert functions() == []
    assert boto3.client("iam").list_roles()["Roles"] == []
    assert boto3.client("logs").describe_log_groups()["logGroups"] == []


def test_destroy_wants_the_name_typed(aws, quick, lines, monkeypatch):
    lines("deploy", "flows", "--name", "shop", "--yes")
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))
    code, _, _ = lines("deploy", "--name", "shop", "--destroy")
    assert (code, functions()) == (130, ["shop"])


def test_destroy_of_nothing_is_done_at_once(aws, lines):
    code, out, _ = lines("deploy", "--name", "shop", "--destroy")
    assert (code, out) == (0, [f"nothing to do: there is nothing of 'shop' in eu-west-1, account {aws}"])


def test_destroy_leaves_what_others_made(aws, quick, lines):
    lines("deploy", "flows", "--name", "shop", "--yes")
    lambda_ = boto3.client("lambda")
    arn = lambda_.get_function(FunctionName="shop")["Configuration"]["FunctionArn"]
    lambda_.untag_resource(Resource=arn, TagKeys=["pyworkflow"])
    code, _, err = lines("deploy", "--name", "shop", "--destroy", "--yes")
    assert (code, functions()) == (2, ["shop"])
    assert "pyworkflow did not make the function 'shop'" in err[0]


def test_destroy_keeps_logs_that_were_there_before(aws, quick, lines):
    logs = boto3.client("logs")
    logs.create_log_group(logGroupName="/aws/lambda/shop")
    lines("deploy", "flows", "--name", "shop", "--yes")
    lines("deploy", "--name", "shop", "--destroy", "--yes")
    assert len(logs.describe_log_groups()["logGroups"]) == 1


# -- documentation ---------------------------------------------------------------


def test_the_page_tells_every_option_and_every_exclusion():
    from pyworkflow_aws.deploy.bundle.exclusions import NEEDLESS, SECRETS
    from pyworkflow_aws.deploy.command import deploy

    page = (Path(__file__).parents[4] / "docs" / "deploy.md").read_text()
    told = set(re.findall(r"`([^`\n]+)`", page))
    options = {option for parameter in deploy.params for option in parameter.opts if option.startswith("--")}
    assert {option for option in options if not any(text.split()[0] == option for text in told)} == set()
    assert {pattern for pattern in (*SECRETS, *NEEDLESS) if pattern not in told} == set()
