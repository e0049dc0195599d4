"""Where the table is: by the config string, else by the settings, else as boto3 finds it."""

from __future__ import annotations

import pytest

from pyworkflow import App
from pyworkflow.errors import ConfigError


@pytest.fixture(autouse=True)
def profiles(monkeypatch, tmp_path):
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    file = tmp_path / "config"
    file.write_text("[profile shop]\nregion = eu-north-1\naws_access_key_id = of-the-shop\naws_secret_access_key = x\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(file))


def client(app):
    """Return the boto3 client by which the storage of *app* talks to its table."""
    found = app.storage._client
    found.open()
    try:
        return found.boto
    finally:
        found.close()


@pytest.mark.parametrize(
    "settings, variables, region",
    [
        ({"storage": "dynamodb://t", "aws_region": "eu-central-1"}, {}, "eu-central-1"),
        ({"storage": "dynamodb://t?region=eu-west-1", "aws_region": "eu-central-1"}, {}, "eu-west-1"),
        ({"storage": "dynamodb://t"}, {"PYWORKFLOW_AWS_REGION": "eu-south-1"}, "eu-south-1"),
        ({}, {"PYWORKFLOW_AWS_REGION": "eu-south-1", "PYWORKFLOW_STORAGE": "dynamodb://t"}, "eu-south-1"),
        ({"storage": "dynamodb://t"}, {"AWS_DEFAULT_REGION": "us-west-2"}, "us-west-2"),
        ({"storage": "dynamodb://t", "aws_profile": "shop"}, {}, "eu-north-1"),
        ({"storage": "dynamodb://t?profile=shop"}, {}, "eu-north-1"),
    ],
)
def test_the_table_is_in_the_region_that_is_said_most_explicitly(monkeypatch, settings, variables, region):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = client(App(**settings))
    assert found.meta.region_name == region
    assert region in found.meta.endpoint_url


def test_the_profile_says_whose_account_it_is():
    app = App(storage="dynamodb://t", aws_profile="shop")
    assert client(app)._request_signer._credentials.access_key == "of-the-shop"


def test_the_app_is_no_option_of_the_config_string():
    with pytest.raises(ConfigError, match=r"no option 'app'.*its options are: region \(.*; profile \(.*; endpoint"):
        App(storage="dynamodb://t?app=shop").storage  # noqa: B018 -- it is made when it is asked for
