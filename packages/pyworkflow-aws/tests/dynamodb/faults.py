"""A DynamoDB that fails now and then: between boto3 and the service, as networks and busy services do."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter

from attrs import define, field
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError, ReadTimeoutError

from pyworkflow_aws.dynamodb import DynamoDBStorage

URL = "https://dynamodb.example"


def answered(code, operation, status=400):
    """What boto3 raises for an error that the service answers with."""
    response = {"Error": {"Code": code, "Message": "injected"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    if operation == "TransactWriteItems" and code == "TransactionCanceledException":
        response["CancellationReasons"] = [{"Code": "None"}, {"Code": "TransactionConflict"}]
    return ClientError(response, operation)


def before(rng, operation):
    """An error with which nothing was done."""
    errors = [
        answered("ProvisionedThroughputExceededException", operation),
        answered("ThrottlingException", operation),
        answered("ServiceUnavailable", operation, 503),
        EndpointConnectionError(endpoint_url=URL),
    ]
    if operation == "TransactWriteItems":
        errors += [answered("TransactionCanceledException", operation)] * 2
    return rng.choice(errors)


def after(rng, operation):
    """An error with which all was done."""
    lost = [ReadTimeoutError(endpoint_url=URL), ConnectionClosedError(endpoint_url=URL)]
    return rng.choice([*lost, answered("InternalServerError", operation, 500)])


@define
class Faults:
    """Which calls fail, and how.

    Attributes:
        rate: The chance of a fault in each call.
        stale: Indexes may also answer what they answered before.
        seen: How often what was done.
    """

    seed: int
    rate: float
    stale: bool = False
    seen: Counter = field(factory=Counter)
    _rng: random.Random = field(init=False)
    _answers: dict = field(factory=dict)
    _guard: threading.Lock = field(factory=threading.Lock)

    def __attrs_post_init__(self):
        self._rng = random.Random(self.seed)

    def install(self, boto):
        """Come between *boto* and the service."""
        call = boto._make_api_call

        def faulty(operation, parameters):
            with self._guard:
                kinds = ["before", "after", "delay", "stale"] if self.stale else ["before", "after", "delay"]
                kind = self._rng.choice(kinds) if self._rng.random() < self.rate else "none"
                error = (before if kind == "before" else after)(self._rng, operation)
                pause = self._rng.uniform(0, 0.02)
                self.seen[kind] += 1
            if kind == "before":
                raise error
            place = parameters.get("IndexName"), str(parameters.get("ExpressionAttributeValues", {}).get(":p"))
            if kind == "stale" and place in self._answers and "ExclusiveStartKey" not in parameters:
                return self._answers[place]
            if kind == "delay":
                time.sleep(pause)
            answer = call(operation, parameters)
            if "IndexName" in parameters:
                self._answers[place] = {"Items": answer["Items"]}
            if kind == "after":
                raise error
            return answer

        boto._make_api_call = faulty


class FaultyStorage(DynamoDBStorage):
    """A storage whose calls fail now and then, once it is open."""

    def __init__(self, name, faults):
        super().__init__(name)
        self.faults = faults
        self._between = None

    async def open(self):
        await super().open()
        boto = self._client.boto
        if boto is not self._between:  # it may be opened many times at once
            self._between = boto
            self.faults.install(boto)
