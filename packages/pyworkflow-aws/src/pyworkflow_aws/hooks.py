"""What this package offers to pyworkflow; light to import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pyworkflow.errors import ConfigError
from pyworkflow.ports import Mode, RuntimeOffer, Storage, hookimpl

if TYPE_CHECKING:
    from pyworkflow.app import App
    from pyworkflow.ports import Runtime
    from pyworkflow_aws.dynamodb import DynamoDBStorage


def _lambda(
    app: App,
    *,
    function: str | None = None,
    qualifier: str | None = None,
    invocation: Literal["request-response", "event"] = "request-response",
) -> Runtime:
    from pyworkflow_aws.transient_lambda import LambdaRuntime

    return LambdaRuntime(app, function=function, qualifier=qualifier, invocation=invocation)


def _durable_lambda(app: App, *, function: str | None = None, qualifier: str | None = None) -> Runtime:
    from pyworkflow_aws.durable.client import DurableLambda

    return DurableLambda(app, function=function, qualifier=qualifier)


@hookimpl
def pyworkflow_runtimes() -> Mapping[str, RuntimeOffer]:
    """Offer ``lambda`` and ``durable-lambda``, with what each of them can be."""
    return {
        "lambda": RuntimeOffer(
            _lambda,
            modes=frozenset({Mode.TRANSIENT}),
            default=Mode.TRANSIENT,
            refusals={
                Mode.DURABLE: "Lambda runtime cannot be durable. Use 'durable-lambda' for durable serverless workflows."
            },
        ),
        "durable-lambda": RuntimeOffer(
            _durable_lambda,
            modes=frozenset({Mode.DURABLE}),
            default=Mode.DURABLE,
            refusals={
                Mode.TRANSIENT: "Durable Lambda runtime is always durable. Use 'lambda' for transient serverless tasks."
            },
        ),
    }


@hookimpl
def pyworkflow_settings() -> Mapping[str, type]:
    """Offer the settings ``aws_…`` and ``deploy_…``."""
    from pyworkflow_aws.settings import AwsSettings, DeploySettings

    return {"aws": AwsSettings, "deploy": DeploySettings}


@hookimpl
def pyworkflow_commands(cli: Any) -> None:
    """Add ``deploy`` and ``dev``."""
    from pyworkflow_aws.deploy.command import deploy
    from pyworkflow_aws.dev import dev

    cli.add_command(deploy)
    cli.add_command(dev)


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


@hookimpl
def pyworkflow_storages() -> Mapping[str, Callable[..., Storage]]:
    """Offer ``dynamodb``."""
    return {"dynamodb": dynamodb}
