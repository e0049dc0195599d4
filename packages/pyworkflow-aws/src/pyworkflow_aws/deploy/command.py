"""``pyworkflow deploy``: the command line; light to import, as the work is elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from attrs import evolve

from pyworkflow.cli.group import pass_session
from pyworkflow.cli.session import Session
from pyworkflow.cli.view.output import Exit, flat, say
from pyworkflow.config.durations import seconds
from pyworkflow.errors import ConfigError
from pyworkflow_aws.settings import AwsSettings, DeploySettings

_RUNTIME = "durable-lambda"

_file = click.Path(path_type=Path)


def _whole_seconds(_ctx: click.Context, parameter: click.Parameter, value: str) -> int:
    return round(seconds(value, name=parameter.opts[0]))


@click.command(short_help="Put workflows on AWS Lambda.")
@click.argument("module", metavar="MODULE[:APP]", required=False)
@click.option("--name", required=True, help="The function's name.")
@click.option("--runtime", metavar="NAME", help="durable-lambda, which is the default, or lambda.")
@click.option("--plan", "only_plan", is_flag=True, help="Show what would be done and what goes into the zip.")
@click.option("--output", metavar="DIR", type=_file, help="Write zip, SAM template and policies; touch no account.")
@click.option("--destroy", "destroying", is_flag=True, help="Delete what deployments of this function made.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--region", help="By default that of the AWS configuration.")
@click.option("--env", metavar="NAME[=VALUE]", multiple=True, help="A variable; its value may come from here.")
@click.option("--requirements", metavar="FILE", type=_file, help="By default those of the project.")
@click.option("--exclude", metavar="PATTERN", multiple=True, help="Files to leave behind, besides the usual ones.")
@click.option("--include", metavar="PATTERN", multiple=True, help="Files to ship all the same.")
@click.option("--python", metavar="VERSION", help="By default this one, if Lambda has it.")
@click.option("--arch", type=click.Choice(["arm64", "x86_64"]), default="arm64", show_default=True)
@click.option("--memory", metavar="MB", type=int, default=512, show_default=True)
@click.option(
    "--timeout", metavar="TIME", default="15m", show_default=True, callback=_whole_seconds, help="Of one invocation."
)
@click.option(
    "--run-timeout", metavar="TIME", default="366d", show_default=True, callback=_whole_seconds, help="Of durable runs."
)
@click.option("--history-days", type=int, default=30, show_default=True, help="How long ended durable runs are kept.")
@click.option("--log-days", type=int, default=30, show_default=True, help="How long logs are kept.")
@click.option("--policy", metavar="FILE", type=_file, help="What the steps may do in AWS: IAM statements in JSON.")
@click.option("--role", metavar="ARN", help="A role to use instead of an own one.")
@click.option("--bucket", help="In S3: for a zip of more than 50 MB, and for large values of durable runs.")
@click.option("--keep", type=int, default=5, show_default=True, help="Old versions to keep that no run needs.")
@pass_session
def deploy(session: Session, /, module: str | None, **options: Any) -> None:
    """Put workflows on AWS Lambda, or bring what is there up to date.

    MODULE is a dotted name or a path that ends in .py; the folder it is imported from is shipped, with what the project
    requires, but without secrets, tests and the like: --plan lists all of it, and what stays behind.

    A second deployment without a change does nothing. Repeating a command that stopped half-way resumes it.

    \b
    Exit codes: 0 done, 1 AWS refused something, 2 usage or configuration, 130 interrupted.

    \b
    Examples:
      pyworkflow deploy shop.flows --name shop --plan
      pyworkflow deploy shop.flows --name shop --env STRIPE_KEY --policy iam.json
      pyworkflow deploy shop.flows --name shop --output build
      pyworkflow deploy --name shop --destroy
    """  # noqa: D301 -- \b is for click: it keeps the lines that follow as they are
    try:
        from pyworkflow_aws.deploy.cloud.errors import DeployFailed
    except ImportError as error:
        msg = f"deploying needs boto3: {error}"
        raise ConfigError(msg) from None
    try:
        _deploy(session, module, **options)
    except DeployFailed as error:
        say(f"pyworkflow: {flat(error)}")
        click.get_current_context().exit(Exit.FAILED)


def _deploy(
    session: Session,
    module: str | None,
    *,
    runtime: str | None,
    only_plan: bool,
    output: Path | None,
    destroying: bool,
    yes: bool,
    exclude: tuple[str, ...],
    include: tuple[str, ...],
    region: str | None,
    bucket: str | None,
    **options: Any,
) -> None:
    from pyworkflow_aws.deploy import deployment

    def ask(question: str) -> None:
        if yes:
            return
        if not destroying:
            click.confirm(question, abort=True)
        elif click.prompt(question, prompt_suffix=": ") != options["name"]:
            raise click.Abort

    terminal = deployment.Terminal(click.echo, say, ask)
    known = session.app().settings
    aws = known.of(AwsSettings)
    aws = evolve(aws, region=region or aws.region)
    if destroying:
        if only_plan or output is not None:
            msg = "--destroy goes neither with --plan nor with --output: it lists what it would delete, and asks"
            raise click.UsageError(msg)
        deployment.remove(options["name"], aws, terminal)
        return
    if module is None:
        msg = "say which MODULE to deploy"
        raise click.UsageError(msg)
    settings = deployment.with_patterns(known.of(DeploySettings), exclude, include)
    options |= {"aws": aws, "bucket": bucket or aws.bucket}
    requested = deployment.request(module, runtime=runtime or session.runtime or _RUNTIME, settings=settings, **options)
    if output is not None:
        deployment.write(requested, terminal, output)
    else:
        deployment.deploy(requested, terminal, only_plan=only_plan)
