"""Makes the storages of this package from their config strings; light to import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from pyworkflow.errors import ConfigError

if TYPE_CHECKING:
    from pyworkflow.app import App
    from pyworkflow.ports import Storage
    from pyworkflow_aws.dynamodb import DynamoDBStorage


def dynamodb(
    place: str,
    *,
    app: App | None = None,
    region: str | None = None,
    profile: str | None = None,
    endpoint: str | None = None,
    shards: int | None = None,
    threads: int = 32,
    bucket: str | None = None,
) -> DynamoDBStorage:
    """Make the storage of ``dynamodb://table?region=eu-west-1``; region and profile are by default those of *app*."""
    if not place or "/" in place:
        msg = "it needs the name of a table: dynamodb://workflows?region=eu-west-1"
        raise ConfigError(msg)
    from pyworkflow_aws.dynamodb import DynamoDBStorage
    from pyworkflow_aws.settings import AwsSettings

    settings = AwsSettings() if app is None else app.settings.of(AwsSettings)
    return DynamoDBStorage(
        place,
        region=region or settings.region,
        profile=profile or settings.profile,
        endpoint=endpoint,
        shards=shards,
        threads=threads,
        bucket=bucket,
    )


STORAGES: Mapping[str, Callable[..., Storage]] = {"dynamodb": dynamodb}
"""The factories, by the names that config strings begin with."""
