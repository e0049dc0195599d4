import pytest

from pyworkflow.errors import ConfigError
from pyworkflow_aws.deploy.cloud.target import KINDS, Target, kind_of, settle_python


def target(**more):
    return Target(**{"name": "shop", "kind": KINDS["lambda"], "module": "flows", "python": "3.13", **more})


@pytest.mark.parametrize(
    "given, said",
    [
        ({"name": "my shop"}, "--name 'my shop'"),
        ({"memory": 64}, "--memory 64: it is between 128 and 10240 MB"),
        ({"timeout": 901}, "--timeout 901: it is between 1 and 900 seconds"),
        ({"run_timeout": 367 * 86400}, "--run-timeout 367d: it is between 1 second and 366 days"),
        ({"history_days": 91}, "--history-days 91"),
        ({"log_days": 31}, "--log-days 31: AWS keeps logs for one of 1, 3, 5"),
        ({"keep": 1}, "--keep 1"),
        ({"environment": {"AWS_REGION": "x"}}, "--env AWS_REGION"),
        ({"environment": {"PYWORKFLOW_MODULE": "x"}}, "--env PYWORKFLOW_MODULE"),
        ({"environment": {"LARGE": "x" * 5000}}, "4 KB"),
    ],
)
def test_what_aws_would_refuse_is_refused_before(given, said):
    with pytest.raises(ConfigError) as caught:
        target(**given)
    assert str(caught.value).startswith(said) or said in str(caught.value)


def test_values_of_variables_are_in_no_repr():
    assert "hunter2" not in repr(target(environment={"KEY": "hunter2"}))


def test_functions_of_two_regions_have_a_role_each():
    assert target().role_name("eu-west-1") != target().role_name("us-east-1")


def test_the_name_of_a_role_fits_and_stays_unambiguous():
    names = {target(name="a" * 63 + end).role_name("eu-west-1") for end in "xy"}
    assert len(names) == 2
    assert all(len(name) <= 64 for name in names)


@pytest.mark.parametrize(
    "runtime, asked, here, settled",
    [
        ("lambda", None, "3.11", "3.11"),
        ("durable-lambda", None, "3.14", "3.14"),
        ("durable-lambda", None, "3.11", "3.13"),
        ("lambda", None, "3.19", "3.13"),
        ("lambda", "3.12", "3.11", "3.12"),
    ],
)
def test_the_python_is_the_one_asked_for_else_this_one_if_lambda_has_it(runtime, asked, here, settled):
    assert settle_python(runtime, asked, here) == settled


def test_durable_functions_do_not_run_on_every_python():
    with pytest.raises(ConfigError, match=r"--python 3\.12: durable-lambda runs on Python 3\.13, 3\.14"):
        settle_python("durable-lambda", "3.12", "3.13")


def test_a_runtime_that_cannot_be_deployed_is_refused():
    with pytest.raises(ConfigError, match=r"there is no runtime 'lamda' \(did you mean 'lambda'\?\) to deploy"):
        kind_of("lamda")
