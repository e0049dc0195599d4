"""`pyworkflow storage init` makes the table, and nothing else does."""

from __future__ import annotations

import boto3
import pytest
from click.testing import CliRunner

from pyworkflow import App
from pyworkflow.app import set_default_app
from pyworkflow.cli.root import cli
from pyworkflow.errors import ConfigError, StorageError
from pyworkflow_aws.dynamodb import DynamoDBStorage


@pytest.fixture
def command(aws, monkeypatch, tmp_path):
    """Call the command line; gives the exit code and all that was printed."""
    monkeypatch.chdir(tmp_path)
    before = set_default_app(App())

    def call(*words):
        done = CliRunner().invoke(cli, words)
        return done.exit_code, done.output

    yield call
    set_default_app(before)


def table(name):
    return boto3.Session().client("dynamodb").describe_table(TableName=name)["Table"]


def test_it_makes_the_table_on_demand_with_two_sparse_indexes(command):
    code, output = command("--storage", "dynamodb://made", "storage", "init")
    assert code == 0, output
    made = table("made")
    assert made["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert {index["IndexName"] for index in made["GlobalSecondaryIndexes"]} == {"work", "list"}


def test_it_turns_point_in_time_recovery_on(command):
    command("--storage", "dynamodb://made", "storage", "init")
    found = (
        boto3.Session().client("dynamodb").describe_continuous_backups(TableName="made")["ContinuousBackupsDescription"]
    )
    assert found["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"


def test_point_in_time_recovery_can_be_left_off(command):
    code, output = command("--storage", "dynamodb://made", "storage", "init", "-o", "pitr=false")
    assert code == 0, output
    assert "point-in-time" not in output
    found = (
        boto3.Session().client("dynamodb").describe_continuous_backups(TableName="made")["ContinuousBackupsDescription"]
    )
    assert found["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "DISABLED"


def test_the_table_can_be_encrypted_with_a_key_of_ones_own(command):
    key = boto3.Session().client("kms").create_key()["KeyMetadata"]["Arn"]
    code, output = command("--storage", "dynamodb://made", "storage", "init", "-o", f"kms_key={key}")
    assert code == 0, output
    assert table("made")["SSEDescription"]["KMSMasterKeyArn"] == key


def test_doing_it_again_changes_nothing(command):
    command("--storage", "dynamodb://made?shards=3", "storage", "init")
    code, output = command("--storage", "dynamodb://made", "storage", "init")
    assert code == 0
    assert "is there" in output
    assert "3 shards" in output


def test_an_unknown_option_is_refused_with_those_there_are(command):
    code, output = command("--storage", "dynamodb://made", "storage", "init", "-o", "pitrr=true")
    assert code == 2, output
    assert "did you mean 'pitr'" in output
    assert "kms_key" in output


def test_a_storage_that_needs_none_of_it_says_so(command):
    code, output = command("--storage", "sqlite:///runs.db", "storage", "init")
    assert code == 2, output
    assert "needs no preparation" in output


def test_a_table_of_another_program_is_refused(command):
    boto3.Session().client("dynamodb").create_table(
        TableName="theirs",
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    )
    code, output = command("--storage", "dynamodb://theirs", "storage", "init")
    assert code == 2, output
    assert "of another program" in output


@pytest.mark.asyncio
async def test_opening_a_table_that_is_not_there_names_the_command(aws):
    storage = DynamoDBStorage("nowhere")
    with pytest.raises(StorageError, match=r"'nowhere'.*pyworkflow storage init"):
        await storage.open()
    await storage.close()


@pytest.mark.asyncio
async def test_another_number_of_shards_is_refused(new_table):
    storage = DynamoDBStorage(new_table(shards=2), shards=5)
    with pytest.raises(ConfigError, match="has 2 shards, not 5"):
        await storage.open()
    await storage.close()
