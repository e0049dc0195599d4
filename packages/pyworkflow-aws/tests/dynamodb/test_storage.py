"""The DynamoDB storage keeps the contract, on two emulators that know nothing of each other.

On one of them it may do no more than the policy for workers says.
"""

from __future__ import annotations

import pytest

from pyworkflow.testing.storage import StorageConformance
from pyworkflow_aws.dynamodb import DynamoDBStorage

pytestmark = pytest.mark.timeout(180)


class TestOnMinistack(StorageConformance):
    many = 2000  # an emulator does some hundred calls a second

    @pytest.fixture
    def storage_factory(self, as_worker):
        name = as_worker()
        return lambda: DynamoDBStorage(name)


class TestOnMoto(StorageConformance):
    many = 100  # each of its queries looks at the whole table

    @pytest.fixture
    def storage_factory(self, on_moto, new_table):
        name = new_table()
        return lambda: DynamoDBStorage(name)
