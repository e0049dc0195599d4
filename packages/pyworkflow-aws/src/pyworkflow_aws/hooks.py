"""What this package offers to pyworkflow; light to import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from pyworkflow.errors import ConfigError, Unsupported
from pyworkflow.ports import Mode, RuntimeOffer, Storage, hookimpl

if TYPE_CHECKING:
    from pyworkflow_aws.dynamodb import DynamoDBStorage


def _not_yet(app: Any, **options: Any) -> NoReturn:  # noqa: ARG001 -- the signature of a runtime's factory
    msg = "this version of pyworkflow-aws knows what its runtimes can do, but cannot run anything on them yet"
    raise Unsupported(msg)


@hookimpl
def pyworkflow_runtimes() -> Mapping[str, RuntimeOffer]:
    """Offer ``lambda`` and ``durable-lambda``, with what each of them can be."""
    return {
        "lambda": RuntimeOffer(
            _not_yet,
            modes=frozenset({Mode.TRANSIENT}),
            default=Mode.TRANSIENT,
            refusals={
                Mode.DURABLE: "Lambda runtime cannot be durable. Use 'durable-lambda' for durable serverless workflows."
            },
        ),
        "durable-lambda": RuntimeOffer(
            _not_yet,
            modes=frozenset({Mode.DURABLE}),
            default=Mode.DURABLE,
            refusals={
                Mode.TRANSIENT: "Durable Lambda runtime is always durable. Use 'lambda' for transient serverless tasks."
            },
        ),
    }


@hookimpl
def pyworkflow_settings() -> Mapping[str, type]:
    """Offer the settings ``deploy_…``."""
    from pyworkflow_aws.deploy.settings import DeploySettings

    return {"deploy": DeploySettings}


@hookimpl
def pyworkflow_commands(cli: Any) -> None:
    """Add ``deploy``."""
    from pyworkflow_aws.deploy.command import deploy

    cli.add_command(deploy)


def dynamodb(
    place: str,
    *,
    region: str | None = None,
    endpoint: str | None = None,
    shards: int | None = None,
    threads: int = 32,
    bucket: str | None = None,
) -> DynamoDBStorage:
    """Make the storage of ``dynamodb://table?region=eu-west-1``."""
    if not place or "/" in place:
        msg = "it needs the name of a table: dynamodb://workflows?region=eu-west-1"
        raise ConfigError(msg)
    from pyworkflow_aws.dynamodb import DynamoDBStorage

    return DynamoDBStorage(place, region=region, endpoint=endpoint, shards=shards, threads=threads, bucket=bucket)


@hookimpl
def pyworkflow_storages() -> Mapping[str, Callable[..., Storage]]:
    """Offer ``dynamodb``."""
    return {"dynamodb": dynamodb}
