import pytest
from attrs import evolve

from pyworkflow.errors import ConfigError
from pyworkflow_aws.deploy.cloud.plan import (
    Configure,
    CreateFunction,
    CreateLogGroup,
    CreateRole,
    DeleteVersion,
    Found,
    KeepLogs,
    PointAlias,
    Publish,
    PutPolicy,
    Role,
    StopRetries,
    UpdateCode,
    plan,
    role_arn,
)
from pyworkflow_aws.deploy.cloud.plan_text import describe, details
from pyworkflow_aws.deploy.cloud.policy import Place, role_policy
from pyworkflow_aws.deploy.cloud.target import KINDS, Target

HERE = Place("123456789012", "eu-west-1")
CODE = "sha-of-the-code"
DURABLE = Target(name="shop", kind=KINDS["durable-lambda"], module="flows", python="3.13", environment={"KEY": "old"})
TRANSIENT = evolve(DURABLE, kind=KINDS["lambda"])


def deployed(target=DURABLE, *, live=1, versions=(1,), code=CODE, **more):
    """What the account holds after a deployment of *target*."""
    function = {
        **target.configuration(role_arn(target, HERE)),
        "CodeSha256": code,
        "Architectures": [target.arch],
        "State": "Active",
        "LastUpdateStatus": "Successful",
    }
    found = Found(
        role=Role(ours=True, policy=role_policy(target, HERE)),
        log_days=target.log_days,
        function=function,
        versions=dict.fromkeys(versions, function),
        live=live,
        aliased=frozenset({live} - {None}),
        retries=None if target.kind.durable else 0,
    )
    return evolve(found, **more)


def kinds(actions):
    return [type(action) for action in actions]


def test_an_empty_account_gets_everything_and_the_alias_last():
    made = [CreateLogGroup, KeepLogs, CreateRole, PutPolicy, CreateFunction, Publish, PointAlias]
    assert kinds(plan(DURABLE, HERE, CODE, Found())) == made


def test_a_transient_function_is_not_run_twice_by_lambda():
    assert plan(TRANSIENT, HERE, CODE, Found())[-1] == StopRetries("live")


@pytest.mark.parametrize("target", [DURABLE, TRANSIENT])
def test_without_a_change_there_is_nothing_to_do(target):
    assert plan(target, HERE, CODE, deployed(target)) == []


def test_new_code_is_a_new_version():
    made = plan(DURABLE, HERE, "other", deployed())
    assert made == [UpdateCode("other", "arm64"), Publish(), PointAlias("live", 1, None)]


def test_another_processor_is_new_code():
    made = plan(evolve(DURABLE, arch="x86_64"), HERE, CODE, deployed())
    assert made[0] == UpdateCode(CODE, "x86_64")


@pytest.mark.parametrize(
    "change, line",
    [
        ({"memory": 1024}, "~ memory: 512 MB -> 1024 MB"),
        ({"timeout": 30}, "~ timeout of an invocation: 15m -> 30s"),
        ({"python": "3.14"}, "~ runtime: python3.13 -> python3.14"),
        ({"module": "shop.flows"}, "~ variable PYWORKFLOW_MODULE: flows -> shop.flows"),
        ({"environment": {"KEY": "new"}}, "~ variable KEY has another value"),
        ({"environment": {"KEY": "old", "MORE": "x"}}, "+ variable MORE"),
        ({"environment": {}}, "- variable KEY"),
        ({"run_timeout": 86400}, "~ timeout of a run: 366d -> 1d"),
        ({"history_days": 7}, "~ days that histories are kept: 30 -> 7"),
    ],
)
def test_a_changed_setting_is_configured_published_and_shown(change, line):
    made = plan(evolve(DURABLE, **change), HERE, CODE, deployed())
    assert kinds(made) == [Configure, Publish, PointAlias]
    assert list(details(made[0])) == [line]


def test_what_variables_hold_is_never_shown():
    made = plan(evolve(DURABLE, environment={"KEY": "hunter2"}), HERE, CODE, deployed())
    created = plan(evolve(DURABLE, environment={"KEY": "hunter2"}), HERE, CODE, Found())
    shown = [line for action in [*made, *created] for line in [describe(action), *details(action)]]
    assert not any("hunter2" in line or "old" in line.split() for line in shown)


def test_what_others_configured_besides_is_left_alone():
    found = deployed()
    function = {
        **found.function,
        "Layers": ["x"],
        "DurableConfig": {**found.function["DurableConfig"], "KMSKeyArn": "k"},
    }
    assert plan(DURABLE, HERE, CODE, evolve(found, function=function, versions={1: function})) == []


def test_another_policy_is_put_and_its_statements_are_shown():
    more = {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": "arn:aws:s3:::prices/*"}
    [put] = plan(evolve(DURABLE, statements=(more,)), HERE, CODE, deployed())
    assert list(details(put)) == ["+ allow s3:GetObject on arn:aws:s3:::prices/*"]


def test_a_role_of_the_user_is_left_as_it_is():
    mine = evolve(DURABLE, role="arn:aws:iam::123456789012:role/mine")
    made = plan(mine, HERE, CODE, Found())
    assert not {CreateRole, PutPolicy} & set(kinds(made))
    assert made[2].configuration["Role"] == mine.role


def test_logs_that_were_kept_for_ever_are_not_any_more():
    assert plan(DURABLE, HERE, CODE, deployed(log_days=0)) == [KeepLogs("/aws/lambda/shop", 30)]


# -- a deployment that stopped half-way ------------------------------------------


def test_a_function_without_a_version_is_published():
    assert plan(DURABLE, HERE, CODE, deployed(live=None, versions=())) == [Publish(), PointAlias("live", None, None)]


def test_a_version_without_an_alias_gets_one():
    assert plan(DURABLE, HERE, CODE, deployed(live=None)) == [PointAlias("live", None, 1)]


def test_a_version_that_was_published_is_not_published_again():
    found = deployed(versions=(1, 2))
    found = evolve(found, versions={1: found.function | {"CodeSha256": "old"}, 2: found.function})
    assert plan(DURABLE, HERE, CODE, found) == [PointAlias("live", 1, 2)]


def test_code_that_was_updated_and_not_published_is_published():
    found = deployed(versions=())
    found = evolve(found, versions={1: found.function | {"CodeSha256": "old"}})
    assert plan(DURABLE, HERE, CODE, found) == [Publish(), PointAlias("live", 1, None)]


def test_an_update_that_failed_at_aws_is_done_again():
    found = deployed()
    found = evolve(found, function=found.function | {"LastUpdateStatus": "Failed"})
    assert kinds(plan(DURABLE, HERE, CODE, found)) == [UpdateCode, Configure]


# -- refusals --------------------------------------------------------------------


def test_a_function_that_is_not_durable_cannot_become_it():
    text = "'shop' in eu-west-1 is not durable, and AWS cannot make a durable function of it"
    with pytest.raises(ConfigError, match=text):
        plan(DURABLE, HERE, CODE, deployed(TRANSIENT))


def test_a_durable_function_cannot_become_transient():
    with pytest.raises(ConfigError, match="is durable, and AWS cannot make a transient function of it"):
        plan(TRANSIENT, HERE, CODE, deployed(DURABLE))


def test_a_function_of_somebody_else_is_not_touched():
    with pytest.raises(ConfigError, match="that pyworkflow did not make: choose another --name"):
        plan(DURABLE, HERE, CODE, deployed(ours=False))


def test_a_role_of_somebody_else_is_not_touched():
    with pytest.raises(ConfigError, match="a role 'pyworkflow-shop-eu-west-1' that pyworkflow did not make"):
        plan(DURABLE, HERE, CODE, Found(role=Role(ours=False, policy=None)))


@pytest.mark.parametrize(
    "state, said",
    [
        ({"PackageType": "Image"}, "container image"),
        ({"State": "Failed", "StateReason": "no such key"}, r"could not make .* \(no such key\): .* --destroy"),
    ],
)
def test_a_function_in_a_state_that_leads_nowhere_is_refused(state, said):
    found = deployed()
    with pytest.raises(ConfigError, match=said):
        plan(DURABLE, HERE, CODE, evolve(found, function=found.function | state))


# -- old versions ----------------------------------------------------------------


def deleted(found, keep=2, code="new"):
    actions = plan(evolve(DURABLE, keep=keep), HERE, code, found)
    return [action.version for action in actions if isinstance(action, DeleteVersion)]


def test_old_versions_go_and_the_newest_stay_counting_the_one_to_come():
    assert deleted(deployed(live=5, versions=range(1, 6)), keep=3) == [1, 2, 3]


def test_a_version_that_runs_need_stays():
    assert deleted(deployed(live=5, versions=range(1, 6), in_use=frozenset({2}))) == [1, 3, 4]


def test_a_version_that_an_alias_points_to_stays():
    assert deleted(deployed(live=1, versions=range(1, 6))) == [2, 3, 4]


def test_the_next_deployment_without_a_change_deletes_nothing_more():
    assert deleted(deployed(live=6, versions=(5, 6)), code=CODE) == []
