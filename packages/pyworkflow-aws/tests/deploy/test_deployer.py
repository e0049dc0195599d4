import itertools

import boto3
import pytest
from attrs import evolve
from botocore.exceptions import ClientError

from pyworkflow_aws.deploy.bundle.archive import pack
from pyworkflow_aws.deploy.bundle.build import Bundle
from pyworkflow_aws.deploy.cloud.account import Account
from pyworkflow_aws.deploy.cloud.apply import Deployer
from pyworkflow_aws.deploy.cloud.errors import AwsRefused, DeployFailed
from pyworkflow_aws.deploy.cloud.plan import plan
from pyworkflow_aws.deploy.cloud.target import KINDS, Target


def target(runtime="durable-lambda", **more):
    return Target(**{"name": "shop", "kind": KINDS[runtime], "module": "flows", "python": "3.13", **more})


def bundle(text="1"):
    data = pack({"flows.py": text.encode()})
    return Bundle(data, ("flows.py",), (), {}, frozenset(), 1, compiled=False, installer="uv", requirements="")


class Cloud:
    """An account on the emulator whose calls are noted, and can be made to fail.

    Attributes:
        calls: The operations of the deployment, in order.
        refuse: The number of the change that AWS refuses.
        lose: The number of the change that is made without the deployment living to know it.
        running: Whether AWS says of every version that runs are under way on it.
    """

    def __init__(self):
        session = boto3.DEFAULT_SESSION
        session.events.register("before-call.*", self._before)
        session.events.register("after-call.*", self._after)
        session.events.register("after-call.lambda.ListDurableExecutionsByFunction", self._listed)
        self.account = Account(session)
        self.calls, self.running = [], False
        self.refuse = self.lose = None

    @property
    def changes(self):
        return [call for call in self.calls if not call.startswith(("Get", "List", "Describe"))]

    def _before(self, event_name, **_):
        self.calls.append(event_name.rpartition(".")[2])
        if self._at(self.refuse):
            error = {"Code": "AccessDenied", "Message": "not authorized to perform: test:Refused on resource: here"}
            raise ClientError({"Error": error}, self.calls[-1])

    def _after(self, **_):
        if self._at(self.lose):
            raise ConnectionResetError

    def _at(self, number):
        return len(self.changes) == number and self.calls[-1] == self.changes[-1]

    def _listed(self, parsed, **_):
        if self.running:  # the emulator starts no durable runs
            parsed["DurableExecutions"] = [{"Status": "RUNNING"}]

    def deploy(self, wanted, code):
        self.calls.clear()
        actions = plan(wanted, self.account.place(), code.digest, self.account.find(wanted))
        Deployer(self.account, wanted, code, pause=lambda _: None).apply(actions)


@pytest.fixture
def cloud(aws, monkeypatch):
    monkeypatch.setattr("pyworkflow_aws.deploy.cloud.apply._POLL", 0.02)
    return Cloud()


@pytest.fixture
def lambda_(aws):
    return boto3.client("lambda")


# -- a deployment ----------------------------------------------------------------


def test_a_durable_function_is_made_with_all_that_belongs_to_it(cloud, lambda_, aws):
    cloud.deploy(target(environment={"KEY": "value"}), bundle())
    live = lambda_.get_function(FunctionName="shop", Qualifier="live")["Configuration"]
    assert live["Version"] == "1"
    assert live["CodeSha256"] == bundle().digest
    assert live["DurableConfig"] == {"ExecutionTimeout": 366 * 86400, "RetentionPeriodInDays": 30}
    assert live["Environment"]["Variables"] == {"KEY": "value", "PYWORKFLOW_MODULE": "flows"}
    assert live["LoggingConfig"]["LogGroup"] == "/aws/lambda/shop"
    assert live["Role"] == f"arn:aws:iam::{aws}:role/pyworkflow-shop-eu-west-1"
    [group] = boto3.client("logs").describe_log_groups(logGroupNamePrefix="/aws/lambda/shop")["logGroups"]
    assert group["retentionInDays"] == 30


def test_lambda_does_not_repeat_transient_runs(cloud, lambda_):
    cloud.deploy(target("lambda"), bundle())
    found = lambda_.get_function_event_invoke_config(FunctionName="shop", Qualifier="live")
    assert found["MaximumRetryAttempts"] == 0


@pytest.mark.parametrize("runtime", KINDS)
def test_a_second_deployment_without_a_change_changes_nothing(cloud, runtime):
    cloud.deploy(target(runtime), bundle())
    cloud.deploy(target(runtime), bundle())
    assert cloud.changes == []


def test_new_code_and_settings_are_a_new_version_and_old_runs_keep_theirs(cloud, lambda_):
    cloud.deploy(target(), bundle("1"))
    cloud.deploy(target(memory=1024), bundle("2"))
    versions = lambda_.list_versions_by_function(FunctionName="shop")["Versions"]
    seen = {one["Version"]: (one["CodeSha256"], one["MemorySize"]) for one in versions if one["Version"] != "$LATEST"}
    assert seen == {"1": (bundle("1").digest, 512), "2": (bundle("2").digest, 1024)}
    assert lambda_.get_alias(FunctionName="shop", Name="live")["FunctionVersion"] == "2"


def test_a_large_zip_needs_a_bucket(cloud, monkeypatch):
    monkeypatch.setattr("pyworkflow_aws.deploy.cloud.apply.UPLOAD_LIMIT", 10)
    with pytest.raises(ValueError, match="Lambda takes 50 MB: give a --bucket"):
        cloud.deploy(target(), bundle())
    assert cloud.changes == []
    boto3.client("s3").create_bucket(Bucket="big-zips", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    cloud.deploy(target(bucket="big-zips"), bundle())
    assert "PutObject" in cloud.changes


def test_old_versions_go_but_not_those_that_runs_need(cloud, lambda_):
    cloud.running = True
    for number in range(1, 5):
        cloud.deploy(target(keep=2), bundle(str(number)))
    assert versions(lambda_) == [1, 2, 3, 4]
    cloud.running = False
    cloud.deploy(target(keep=2), bundle("5"))
    assert versions(lambda_) == [4, 5]


def versions(lambda_):
    found = lambda_.list_versions_by_function(FunctionName="shop")["Versions"]
    return [int(one["Version"]) for one in found if one["Version"] != "$LATEST"]


# -- refusals --------------------------------------------------------------------


def test_a_function_of_somebody_else_is_not_touched(cloud, lambda_, aws):
    role = f"arn:aws:iam::{aws}:role/theirs"
    boto3.client("iam").create_role(RoleName="theirs", AssumeRolePolicyDocument="{}")
    lambda_.create_function(
        FunctionName="shop", Runtime="python3.13", Role=role, Handler="a.b", Code={"ZipFile": bundle().data}
    )
    with pytest.raises(ValueError, match="that pyworkflow did not make"):
        cloud.deploy(target(), bundle())
    assert cloud.changes == []


def test_a_transient_function_does_not_become_durable(cloud):
    cloud.deploy(target("lambda"), bundle())
    with pytest.raises(ValueError, match="is not durable, and AWS cannot make a durable function of it"):
        cloud.deploy(target(), bundle())
    assert cloud.changes == []


# -- failures half-way -----------------------------------------------------------


@pytest.mark.parametrize("runtime, how", [("lambda", "refuse"), ("durable-lambda", "lose")])
def test_after_a_failure_at_any_call_the_next_deployment_goes_on(cloud, runtime, how):
    straight = changed(target(runtime, name="straight"))
    cloud.deploy(straight, bundle("2"))
    for number in itertools.count(1):
        first = target(runtime, name=f"shop-{number}")
        if not stops(cloud, how, number, first, bundle("1")):
            break
        second = changed(first)
        stops(cloud, how, number, second, bundle("2"))
        cloud.deploy(second, bundle("2"))
        assert left_by(cloud, second) == left_by(cloud, straight)
        cloud.deploy(second, bundle("2"))
        assert cloud.changes == []
    assert number > 7


def changed(wanted):
    return evolve(wanted, memory=1024, log_days=7, module="shop.flows")


def left_by(cloud, wanted):
    """What a deployment left, without what differs from one to the next."""
    found = cloud.account.find(wanted)
    live = found.versions[found.live]
    parts = [{key: part[key] for key in wanted.configuration("")} for part in (found.function, live)]
    text = repr((found.role, found.log_days, parts, live["CodeSha256"], found.retries, found.ours))
    return text.replace(wanted.name, "NAME")


def stops(cloud, how, number, wanted, code):
    """Deploy, and fail at the call *number* that changes something; return whether there was one."""
    setattr(cloud, how, number)
    try:
        cloud.deploy(wanted, code)
    except (DeployFailed, ConnectionResetError):
        return True
    finally:
        cloud.refuse = cloud.lose = None
    return False


def test_a_failure_says_what_there_is_already_and_how_to_go_on(cloud):
    cloud.refuse = 5  # the function
    with pytest.raises(DeployFailed) as caught:
        cloud.deploy(target(), bundle())
    stopped, done, then = str(caught.value).splitlines()
    assert stopped == (
        "deploying 'shop' stopped when it was to create the function: the credentials lack the permission test:Refused "
        "on here: have it granted, docs/deploy.md lists all of them"
    )
    assert done == (
        "done before that: create the log group /aws/lambda/shop; keep the logs in /aws/lambda/shop for 30 days; "
        "create the role pyworkflow-shop-eu-west-1; set the policy of the role pyworkflow-shop-eu-west-1"
    )
    assert then == "once the cause is gone, type the same command again: it goes on from there"


@pytest.mark.parametrize(
    "code, message",
    [
        ("InvalidParameterValueException", "The role defined for the function cannot be assumed by Lambda."),
        ("ResourceConflictException", "The operation cannot be performed at this time. An update is in progress"),
    ],
)
def test_a_role_that_is_not_known_everywhere_yet_is_waited_for(cloud, lambda_, monkeypatch, code, message):
    create, pauses = cloud.account.lambda_.create_function, []

    def slow(**arguments):
        if len(pauses) < 3:
            raise ClientError({"Error": {"Code": code, "Message": message}}, "CreateFunction")
        return create(**arguments)

    monkeypatch.setattr(cloud.account.lambda_, "create_function", slow)
    actions = plan(target(), cloud.account.place(), bundle().digest, cloud.account.find(target()))
    Deployer(cloud.account, target(), bundle(), pause=pauses.append).apply(actions)
    assert pauses == [1.0, 1.0, 1.0]
    assert versions(lambda_) == [1]


# -- credentials -----------------------------------------------------------------


def test_without_credentials_one_sentence_says_where_to_put_them(aws, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(AwsRefused, match=r"^there are no AWS credentials: run 'aws configure', or .*$"):
        Account(boto3.Session()).place()


def test_without_a_region_one_sentence_says_how_to_give_one(aws, monkeypatch):
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(AwsRefused, match=r"^there is no AWS region: give --region, .*$"):
        Account(boto3.Session())


def test_credentials_that_aws_does_not_know_are_told(aws, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    with pytest.raises(AwsRefused, match="AWS does not know these credentials"):
        Account(boto3.Session()).place()


def test_an_endpoint_that_is_not_there_is_told(aws, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(AwsRefused, match=r"AWS cannot be reached: .*127\.0\.0\.1:9"):
        Account(boto3.Session()).place()


def test_a_missing_permission_is_named(aws, monkeypatch):
    iam = boto3.client("iam")
    iam.create_user(UserName="intern")
    key = iam.create_access_key(UserName="intern")["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    account = Account(boto3.Session())
    account.place()  # everybody may ask who they are
    with pytest.raises(AwsRefused, match=r"^the credentials lack the permission iam:GetRole: have it granted, .*$"):
        account.find(target())
