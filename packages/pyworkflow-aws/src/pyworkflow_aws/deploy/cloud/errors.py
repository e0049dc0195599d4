"""Failures of calls of AWS, each explained in one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from botocore import exceptions as boto

from pyworkflow.errors import WorkflowError


class DeployFailed(WorkflowError):
    """A deployment failed; the message has the state it left and how to resume."""


class AwsRefused(DeployFailed):
    """One call of AWS was refused, or could not be made."""


_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError"}
_UNKNOWN_KEY = {"InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch", "InvalidAccessKeyId"}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired"}


@contextmanager
def sentences() -> Iterator[None]:
    """Turn boto's exceptions into `AwsRefused`, whose message is one sentence with what to do."""
    try:
        yield
    except (boto.BotoCoreError, boto.ClientError) as error:
        raise AwsRefused(sentence(error)) from error


def sentence(error: Exception) -> str:  # noqa: PLR0911 -- a table
    """Return what *error* of boto means for the person at the command line."""
    match error:
        case boto.NoCredentialsError() | boto.PartialCredentialsError():
            return (
                "there are no AWS credentials: run 'aws configure', or set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY"
            )
        case boto.NoRegionError():
            return "there is no AWS region: give --region, such as --region eu-west-1, or set AWS_REGION"
        case boto.ProfileNotFound():
            return f"{error}: 'aws configure list-profiles' shows those there are"
        case boto.SSOTokenLoadError() | boto.TokenRetrievalError() | boto.UnauthorizedSSOTokenError():
            return f"the AWS sign-in has ended ({error}): run 'aws sso login'"
        case boto.EndpointConnectionError() | boto.HTTPClientError():
            return f"AWS cannot be reached: {error}; is the region right, and is there a network?"
        case boto.ClientError():
            return _refusal(error)
    return f"the call of AWS failed: {' '.join(str(error).split())}"


def code_of(error: boto.ClientError) -> str:
    """Return the error code that AWS gave."""
    return str(error.response.get("Error", {}).get("Code", ""))


def message_of(error: boto.ClientError) -> str:
    """Return the text that AWS gave, on one line."""
    return " ".join(str(error.response.get("Error", {}).get("Message", "")).split())


def _refusal(error: boto.ClientError) -> str:
    code, message = code_of(error), message_of(error)
    call = f"{error.operation_name}"
    if code in _DENIED:
        named = re.search(r"perform:? (?P<action>[\w-]+:\w+)(?: on resource:? (?P<resource>\S+))?", message)
        action = named["action"] if named else call
        where = f" on {named['resource']}" if named and named["resource"] else ""
        return f"the credentials lack the permission {action}{where}: have it granted, docs/deploy.md lists all of them"
    if code in _UNKNOWN_KEY:
        return f"AWS does not know these credentials ({code}): check AWS_ACCESS_KEY_ID and its secret, or AWS_PROFILE"
    if code in _EXPIRED:
        return "the AWS credentials have expired: sign in again"
    return f"AWS refused {call}: {code}: {message}"
