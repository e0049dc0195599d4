import itertools
import json
import random

import boto3
import pytest

from pyworkflow_aws.deploy.cloud.policy import Place, table_policy
from pyworkflow_aws.deploy.cloud.target import Table
from pyworkflow_aws.dynamodb.client import Client
from pyworkflow_aws.dynamodb.table import initialise

_NUMBERS = itertools.count(1)


@pytest.fixture
def new_table(aws):
    """Make a table and return its name."""

    def make(shards=2):
        client = Client(f"runs-{next(_NUMBERS)}", None, None, 1, None)
        client.open()
        initialise(client, shards, pitr=False, kms_key=None)
        client.close()
        return client.table

    return make


@pytest.fixture
def as_worker(aws, new_table, monkeypatch):
    """Make a table, be somebody who may do what a worker of it needs, and return its name."""

    def become(bucket=None):
        name, iam = new_table(), boto3.client("iam")
        if bucket is not None:
            configuration = {"LocationConstraint": "eu-west-1"}
            boto3.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration=configuration)
        policy = table_policy(Table(name, bucket=bucket), Place(aws, "eu-west-1"))
        iam.create_user(UserName="worker")
        iam.put_user_policy(UserName="worker", PolicyName="least", PolicyDocument=json.dumps(policy))
        key = iam.create_access_key(UserName="worker")["AccessKey"]
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        return name

    return become


@pytest.fixture
def noise():
    """Make text that cannot be compressed to less than three quarters."""
    rng = random.Random(5)
    return lambda size: "".join(rng.choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", k=size))


@pytest.fixture
def on_moto(aws, moto, monkeypatch):
    """The environment of `aws`, with moto as AWS."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
