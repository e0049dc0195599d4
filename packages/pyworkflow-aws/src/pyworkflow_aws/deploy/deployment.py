"""What ``pyworkflow deploy`` does: gathers, builds, compares, and then applies, writes, or only shows the plan."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from pyworkflow.errors import ConfigError
from pyworkflow_aws.deploy import report
from pyworkflow_aws.deploy.bundle import requirements
from pyworkflow_aws.deploy.bundle.build import Bundle, build
from pyworkflow_aws.deploy.bundle.contents import gather
from pyworkflow_aws.deploy.bundle.exclusions import Exclusions
from pyworkflow_aws.deploy.bundle.own_wheels import PACKAGES
from pyworkflow_aws.deploy.bundle.platforms import Platform
from pyworkflow_aws.deploy.bundle.source import Source, find_source
from pyworkflow_aws.deploy.cloud.account import Account
from pyworkflow_aws.deploy.cloud.apply import Deployer
from pyworkflow_aws.deploy.cloud.destroy import deletions, destroy, has_runs
from pyworkflow_aws.deploy.cloud.errors import sentences
from pyworkflow_aws.deploy.cloud.plan import check, plan
from pyworkflow_aws.deploy.cloud.policy import Place, callers_policy, role_policy, statements_of
from pyworkflow_aws.deploy.cloud.sam_template import ANYWHERE, template
from pyworkflow_aws.deploy.cloud.target import ALIAS, KINDS, Target, kind_of, settle_python
from pyworkflow_aws.settings import AwsSettings, DeploySettings


@frozen(kw_only=True)
class Request:
    """A deployment as the command line describes it.

    Attributes:
        target: The function.
        source: The module.
        settings: The project's, with the command line's.
        requirements: A file; None: the project's.
        aws: How to reach AWS.
    """

    target: Target
    source: Source
    settings: DeploySettings
    requirements: Path | None = None
    aws: AwsSettings


@frozen
class Terminal:
    """The person at the command line: *out* prints results, *tell* progress; *ask* raises unless the answer is yes."""

    out: Callable[[str], object]
    tell: Callable[[str], object]
    ask: Callable[[str], object]

    def lines(self, lines: Iterable[str]) -> None:
        """Print *lines*."""
        for line in lines:
            self.out(line)


def request(
    place: str,
    *,
    runtime: str,
    python: str | None,
    env: Iterable[str],
    policy: Path | None,
    settings: DeploySettings,
    requirements: Path | None,
    aws: AwsSettings,
    **target: Any,
) -> Request:
    """Return the deployment that the options of the command describe.

    Raises:
        ConfigError: One of them does not make sense.
    """
    module, colon, app = place.partition(":")
    source = find_source(module)
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    made = Target(
        kind=kind_of(runtime),
        module=f"{source.module}{colon}{app}",
        python=settle_python(runtime, python, here),
        environment=dict(map(_variable, env)),
        statements=() if policy is None else _statements(policy),
        **target,
    )
    return Request(target=made, source=source, settings=settings, requirements=requirements, aws=aws)


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals and name not in os.environ:
        msg = f"--env {name}: write {name}=VALUE, or set it in the environment, from where it is taken then"
        raise ConfigError(msg)
    return name, value if equals else os.environ[name]


def _statements(path: Path) -> Any:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"--policy {path} cannot be read: {error}"
        raise ConfigError(msg) from None
    return statements_of(document, str(path))


def bundle_of(requested: Request, terminal: Terminal) -> Bundle:
    """Make the zip."""
    settings = requested.settings
    return build(
        requested.source,
        gather(requested.source.root, Exclusions(settings.exclude, settings.include)),
        requirements.read(requested.source.root, PACKAGES, requested.requirements),
        Platform(requested.target.python, requested.target.arch),
        services=settings.services,
        tell=terminal.tell,
    )


def deploy(requested: Request, terminal: Terminal, *, only_plan: bool = False) -> None:
    """Create or update the function, once the person agrees; or only show what would be done.

    Raises:
        ConfigError: It cannot be done.
        DeployFailed: AWS refused something.
    """
    account, place = connect(requested.aws)
    target = requested.target
    found = account.find(target)
    check(target, place, found)  # before anything that takes long
    bundle = bundle_of(requested, terminal)
    actions = plan(target, place, bundle.digest, found)
    terminal.lines(report.contents(bundle) if only_plan else [report.summary(bundle)])
    terminal.lines(report.steps(target, place, actions))
    if only_plan or not actions:
        return
    terminal.ask("Do this?")
    Deployer(account, target, bundle, terminal.tell).apply(actions)
    terminal.out(f"deployed: {target.name}:{ALIAS} in {place.region}")


def write(requested: Request, terminal: Terminal, folder: Path) -> None:
    """Write the zip, a SAM template and the policies into *folder*; no account is needed.

    Raises:
        ConfigError: The zip cannot be made.
    """
    target = requested.target
    bundle = bundle_of(requested, terminal)
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"{target.name}.zip"
    archive.write_bytes(bundle.data)
    documents = {
        "template.json": template(target, archive.name),
        "role-policy.json": role_policy(target, ANYWHERE),
        "callers-policy.json": callers_policy(target, ANYWHERE),
    }
    for name, document in documents.items():
        (folder / name).write_text(f"{json.dumps(document, indent=2)}\n", encoding="utf-8")
    terminal.lines(report.contents(bundle))
    terminal.out(f"written to {folder}: {', '.join([archive.name, *documents])}")
    terminal.out(f"deploy it with: sam deploy --template-file {folder / 'template.json'} --capabilities CAPABILITY_IAM")


def remove(name: str, aws: AwsSettings, terminal: Terminal) -> None:
    """Delete what deployments of the function *name* made, once the person agrees.

    Raises:
        ConfigError: It is not ours.
        DeployFailed: AWS refused something.
    """
    account, place = connect(aws)
    target = Target(name=name, kind=KINDS["lambda"], module="", python="")
    found = account.find(target)
    items = deletions(account, target, place, found)
    if not items:
        terminal.out(f"nothing to do: there is nothing of {name!r} in {place.region}, account {place.account}")
        return
    terminal.out(f"to be deleted in {place.region}, account {place.account}:")
    terminal.lines(f"  {item.what}" for item in items)
    if has_runs(account, target, found):
        terminal.out("runs are in progress, and will be lost")
    terminal.ask(f"Delete all of it? Type {name} to go on")
    destroy(items, terminal.tell)
    terminal.out(f"deleted: {name}")


def connect(aws: AwsSettings) -> tuple[Account, Place]:
    """Return the account that there are credentials for, and where it is.

    Raises:
        AwsRefused: There are no credentials, or no region.
    """
    import boto3

    with sentences():
        session = boto3.Session(profile_name=aws.profile)
    account = Account(session, aws.region, aws.endpoint_url)
    return account, account.place()


def with_patterns(settings: DeploySettings, exclude: Iterable[str], include: Iterable[str]) -> DeploySettings:
    """Return *settings* with the patterns of the command line added."""
    return evolve(settings, exclude=(*settings.exclude, *exclude), include=(*settings.include, *include))
