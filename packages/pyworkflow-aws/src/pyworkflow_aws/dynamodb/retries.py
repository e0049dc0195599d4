"""Calls of AWS: repeated while the service is busy or away, with its refusals as exceptions of ours."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

from pyworkflow.errors import StorageBusy, StorageError
from pyworkflow_aws.dynamodb.attribute_values import plain
from pyworkflow_aws.dynamodb.keys import Item

logger = logging.getLogger(__name__)

PATIENCE = 30.0
"""Seconds for which a call is repeated."""

FIRST_PATIENCE = 5.0
"""Seconds for which a call is repeated until the table has once been reached: a name or an endpoint may be wrong."""

_BUSY = frozenset({
    "InternalServerError",
    "ItemCollectionSizeLimitExceededException",
    "LimitExceededException",
    "ProvisionedThroughputExceeded",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "SlowDown",
    "ThrottlingError",
    "ThrottlingException",
    "TransactionConflict",
    "TransactionConflictException",
    "TransactionInProgressException",
})  # fmt: skip


class CheckFailed(Exception):
    """A condition was not met, and nothing was written; *found*: what is there, for a single write."""

    def __init__(self, found: Item | None = None) -> None:
        super().__init__("a condition was not met")
        self.found = found


def repeat(
    function: Callable[..., Any], parameters: Mapping[str, Any], *, place: str, patience: float
) -> dict[str, Any]:
    """Call a method of a boto3 client, again and again while the service is busy or cannot be reached.

    Args:
        function: The method.
        parameters: Its arguments.
        place: What is called, such as ``table 'runs'``, for errors.
        patience: Seconds after which it gives up.

    Raises:
        CheckFailed: The condition is not met.
        StorageBusy: The service was busy, or away, for too long.
        StorageError: It refuses.
    """
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
    from botocore.exceptions import ConnectionError as ConnectError

    until, pause = time.monotonic() + patience, 0.02
    while True:
        try:
            return cast("dict[str, Any]", function(**parameters))
        except ClientError as error:
            if not _is_busy(error.response):
                raise _refused(place, error.response) from error
            reason: Exception = error
        except (HTTPClientError, ConnectError, ConnectionError) as error:
            reason = error
        except BotoCoreError as error:
            msg = f"{place}: {error}"
            raise StorageError(msg) from error
        if time.monotonic() > until:
            msg = f"{place} was busy or away for {patience:.0f} s: {reason}"
            raise StorageBusy(msg) from reason
        logger.debug("%s: %s; trying again", place, reason)
        time.sleep(pause * random.random())  # noqa: S311 -- jitter
        pause = min(2 * pause, 2.0)


def _refused(place: str, response: Any) -> Exception:
    code, text = response["Error"]["Code"], response["Error"].get("Message", "")
    reasons = [reason.get("Code") for reason in response.get("CancellationReasons", ())]
    if code == "ConditionalCheckFailedException" or "ConditionalCheckFailed" in reasons:
        found = response.get("Item")
        return CheckFailed(None if found is None else plain(found))
    if code == "ResourceNotFoundException":
        return StorageError(
            f"there is no {place} in this account and region: make it with `pyworkflow storage init`, "
            "or correct the name"
        )
    return StorageError(f"{place}: {code}: {text}{f' {reasons}' if any(reasons) else ''}")


def _is_busy(response: Any) -> bool:
    code = response["Error"]["Code"]
    if code == "TransactionCanceledException":
        reasons = {reason.get("Code", "None") for reason in response.get("CancellationReasons", ())} - {"None"}
        return bool(reasons) and reasons <= _BUSY
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return code in _BUSY or status >= 500  # noqa: PLR2004 -- HTTP: the server's fault
