import pytest

from pyworkflow.errors import ConfigError
from pyworkflow_aws.deploy.cloud.policy import Place, callers_policy, role_policy, statements_of, table_policy, too_wide
from pyworkflow_aws.deploy.cloud.sam_template import ANYWHERE
from pyworkflow_aws.deploy.cloud.target import KINDS, Table, Target

HERE = Place("123456789012", "eu-west-1")
READ = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::prices/*"}


def target(runtime="durable-lambda", **more):
    return Target(name="shop", kind=KINDS[runtime], module="flows", python="3.13", **more)


def listed(value):
    return value if isinstance(value, list) else [value]


def allowed(policy):
    return {
        (action, resource)
        for statement in policy["Statement"]
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
    }


@pytest.mark.parametrize("place", [HERE, ANYWHERE], ids=["here", "anywhere"])
@pytest.mark.parametrize("policy", [role_policy, callers_policy])
@pytest.mark.parametrize("runtime", KINDS)
def test_nothing_is_allowed_on_everything(runtime, policy, place):
    assert list(too_wide(policy(target(runtime), place))) == []


@pytest.mark.parametrize("policy", [role_policy, callers_policy])
@pytest.mark.parametrize("runtime", KINDS)
def test_every_resource_belongs_to_the_function(runtime, policy):
    function = "arn:aws:lambda:eu-west-1:123456789012:function:shop"
    log = "arn:aws:logs:eu-west-1:123456789012:log-group:/aws/lambda/shop:*"
    found = {resource for _, resource in allowed(policy(target(runtime), HERE))}
    assert found <= {function, f"{function}:*", f"{function}:live", log}


def test_a_transient_function_may_log_and_start_runs_and_nothing_else():
    actions = {action for action, _ in allowed(role_policy(target("lambda"), HERE))}
    assert actions == {"logs:CreateLogStream", "logs:PutLogEvents", "lambda:InvokeFunction"}


def test_a_durable_function_may_also_keep_its_runs():
    more = allowed(role_policy(target(), HERE)) - allowed(role_policy(target("lambda"), HERE))
    versions = "arn:aws:lambda:eu-west-1:123456789012:function:shop:*"
    assert more == {("lambda:CheckpointDurableExecution", versions), ("lambda:GetDurableExecutionState", versions)}


def test_callers_start_runs_on_the_alias_alone():
    starts = {one for action, one in allowed(callers_policy(target(), HERE)) if action == "lambda:InvokeFunction"}
    assert starts == {"arn:aws:lambda:eu-west-1:123456789012:function:shop:live"}


@pytest.mark.parametrize("policy, verbs", [(role_policy, ("Get", "Put")), (callers_policy, ("Get",))])
def test_large_values_are_below_one_prefix_of_the_bucket_and_written_by_the_function_alone(policy, verbs):
    more = allowed(policy(target(bucket="big"), HERE)) - allowed(policy(target(), HERE))
    assert more == {(f"s3:{verb}Object", "arn:aws:s3:::big/pyworkflow/*") for verb in verbs}


@pytest.mark.parametrize(
    "variables, table",
    [
        ({"PYWORKFLOW_STORAGE": "dynamodb://runs"}, Table("runs")),
        ({"PYWORKFLOW_STORAGE": "dynamodb://runs?region=eu-north-1&shards=4"}, Table("runs", "eu-north-1")),
        ({"PYWORKFLOW_STORAGE": "dynamodb://runs", "PYWORKFLOW_AWS_REGION": "eu-north-1"}, Table("runs", "eu-north-1")),
        ({"PYWORKFLOW_STORAGE": "dynamodb://runs?bucket=big"}, Table("runs", bucket="big")),
        ({"PYWORKFLOW_STORAGE": "dynamodb://runs?endpoint=http://127.0.0.1:1"}, None),
        ({"PYWORKFLOW_STORAGE": "sqlite:////tmp/runs.db"}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("runtime", KINDS)
def test_a_function_may_use_the_table_that_its_variables_name(runtime, variables, table):
    more = allowed(role_policy(target(runtime, environment=variables), HERE)) - allowed(
        role_policy(target(runtime), HERE)
    )
    assert more == (set() if table is None else allowed(table_policy(table, HERE)))


def test_no_worker_may_do_anything_outside_its_table_and_its_objects():
    policy = table_policy(Table("runs", bucket="big"), HERE)
    table = "arn:aws:dynamodb:eu-west-1:123456789012:table/runs"
    assert list(too_wide(policy)) == []
    assert {resource for action, resource in allowed(policy) if action.startswith("dynamodb:")} == {
        table,
        f"{table}/index/*",
    }
    assert {resource for action, resource in allowed(policy) if action.startswith("s3:")} == {
        "arn:aws:s3:::big",
        "arn:aws:s3:::big/runs/*",
    }


def test_variables_that_name_no_storage_are_refused_before_anything_is_deployed():
    with pytest.raises(ConfigError, match="storage 'dynamodb' has no option 'shard'"):
        target(environment={"PYWORKFLOW_STORAGE": "dynamodb://runs?shard=4"})


def test_other_partitions_have_other_arns():
    china = Place("123456789012", "cn-north-1", "aws-cn")
    assert all(one.startswith("arn:aws-cn:") for _, one in allowed(role_policy(target(), china)))


def test_what_the_steps_need_comes_on_top():
    assert role_policy(target(statements=(READ,)), HERE)["Statement"][-1] == READ


@pytest.mark.parametrize(
    "document", [{"Version": "2012-10-17", "Statement": [READ]}, {"Statement": READ}, [READ], READ]
)
def test_statements_are_read_from_whatever_holds_them(document):
    assert statements_of(document, "iam.json") == (READ,)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"Action": "*"}, r"the action '\*'"),
        ({"Action": ["s3:GetObject", "s3:*"]}, r"the action 's3:\*'"),
        ({"Resource": "*"}, r"the resource '\*'"),
        ({"Resource": "arn:aws:s3:::*"}, r"the resource 'arn:aws:s3:::\*'"),
        ({"NotAction": "s3:DeleteObject"}, "all but something"),
    ],
)
def test_statements_that_allow_everything_are_refused(change, said):
    with pytest.raises(ConfigError, match=f"iam.json allows too much: statement 1 allows {said}"):
        statements_of({"Statement": [READ | change]}, "iam.json")


@pytest.mark.parametrize("document", ["all", 7, [1], {"Statement": "x"}])
def test_what_is_no_policy_is_refused(document):
    with pytest.raises(ConfigError, match=r"iam\.json is not an IAM policy"):
        statements_of(document, "iam.json")


def test_a_statement_that_lacks_something_is_refused():
    with pytest.raises(ConfigError, match="lacks Action and Resource; it has Effect"):
        statements_of([{"Effect": "Allow"}], "iam.json")
