import asyncio
import itertools

import pytest

from pyworkflow_aws.dynamodb import DynamoDBStorage

_NUMBERS = itertools.count(1)


@pytest.fixture
def new_table(aws):
    """Make a table and return its name."""

    def make(shards=2):
        name = f"runs-{next(_NUMBERS)}"
        asyncio.run(DynamoDBStorage(name, shards=shards).init())
        return name

    return make
