"""What this package offers to pyworkflow; light to import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from pyworkflow.errors import Unsupported
from pyworkflow.ports import Mode, RuntimeOffer, hookimpl


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
