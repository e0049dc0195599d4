"""The hooks by which pyworkflow finds this package; light to import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pyworkflow.ports import Mode, RuntimeOffer, Storage, hookimpl
from pyworkflow_aws.storage_factory import STORAGES

if TYPE_CHECKING:
    from pyworkflow.app import App
    from pyworkflow.ports import Runtime


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
    from pyworkflow_aws.durable.client.runtime import DurableLambda

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
    from pyworkflow_aws.local_lambda import dev

    cli.add_command(deploy)
    cli.add_command(dev)


@hookimpl
def pyworkflow_storages() -> Mapping[str, Callable[..., Storage]]:
    """Offer ``dynamodb``."""
    return STORAGES
