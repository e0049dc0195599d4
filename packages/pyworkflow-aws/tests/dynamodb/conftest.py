import itertools

import pytest

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
def on_moto(aws, moto, monkeypatch):
    """The environment of `aws`, with moto as AWS."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
