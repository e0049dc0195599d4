"""Starts a run: the name of its execution, and the payload, which is the same for the same start."""

from __future__ import annotations

import json
import re
import secrets
from hashlib import blake2b
from typing import Any

from attrs import frozen
from botocore.exceptions import ClientError

from pyworkflow.errors import ConfigError, PayloadTooLarge, RunExists
from pyworkflow.events import Parent, Plain

MAX_INPUT = 1024 * 1024
"""The most bytes that an asynchronous invocation may carry."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@frozen
class Start:
    """A run to start.

    Attributes:
        workflow: The workflow's name.
        run_id: The run's id.
        key: Its idempotency key; None: a second start with this id is an error.
        previous: The run that it continues.
    """

    workflow: str
    args: Plain
    kwargs: Plain
    run_id: str
    key: str | None = None
    previous: str | None = None
    parent: Parent | None = None

    def payload(self) -> bytes:
        """Return the function's payload, byte for byte the same for the same start with a key.

        Raises:
            PayloadTooLarge: The arguments are too large.
        """
        data: dict[str, Any] = {
            "workflow": self.workflow,
            "args": self.args,
            "kwargs": self.kwargs,
            "run_id": self.run_id,
        }
        if self.key is None:
            data["once"] = secrets.token_hex(16)  # distinguishes another start from a repeated call
        else:
            data["key"] = self.key
        if self.previous is not None:
            data["previous"] = self.previous
        text = json.dumps(data, sort_keys=True, separators=(",", ":"))
        if len(text) > MAX_INPUT:
            msg = (
                f"the arguments of workflow {self.workflow!r} are {len(text):,} bytes as JSON, and AWS takes "
                f"{MAX_INPUT:,}: put large data into S3, and pass its place"
            )
            raise PayloadTooLarge(msg)
        return text.encode()


def execution_name(run_id: str) -> str:
    """Return the name of the execution of a run: its id, if AWS takes it as a name."""
    if _NAME.fullmatch(run_id):
        return run_id
    digest = blake2b(run_id.encode(), digest_size=12).hexdigest()
    return f"{re.sub('[^A-Za-z0-9_-]', '-', run_id)[:39]}-{digest}"


def invoke(client: Any, function: str, qualifier: str, start: Start) -> str:
    """Start a run; return the ARN of its execution.

    Raises:
        RunExists: There is another run with this id.
        ConfigError: The function is not there, or is not durable.
    """
    payload = start.payload()
    try:
        answer = client.invoke(
            FunctionName=function,
            Qualifier=qualifier,
            InvocationType="Event",
            DurableExecutionName=execution_name(start.run_id),
            Payload=payload,
        )
        answer["Payload"].read()  # it is empty, but its connection is not free until it is read
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code == "DurableExecutionAlreadyStartedException":
            raise RunExists(f"there is a run {start.run_id!r} already") from None
        if code == "ResourceNotFoundException":
            msg = f"there is no function {function!r} with alias or version {qualifier!r}; deploy it"
            raise ConfigError(msg) from None
        raise
    arn: str | None = answer.get("DurableExecutionArn")
    if arn is None:
        msg = (
            f"function {function!r} is not a durable function: AWS began no durable execution. It has to be "
            "created again: see `pyworkflow deploy --runtime durable-lambda`"
        )
        raise ConfigError(msg)
    return arn
