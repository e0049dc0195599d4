"""What ``pyworkflow deploy`` does: gathers, builds, compares, and then acts, writes or only tells."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from pyworkflow.errors import ConfigError
from pyworkflow_aws.deploy import report, requirements
from pyworkflow_aws.deploy.account import Account
from pyworkflow_aws.deploy.bundle import Bundle, build
from pyworkflow_aws.deploy.contents import gather
from pyworkflow_aws.deploy.deployer import Deployer
from pyworkflow_aws.deploy.destroying import destroy, doomed, running
from pyworkflow_aws.deploy.errors import sentences
from pyworkflow_aws.deploy.exclusions import Exclusions
from pyworkflow_aws.deploy.ours import PACKAGES
from pyworkflow_aws.deploy.plan import check, plan
from pyworkflow_aws.deploy.platforms import Platform
from pyworkflow_aws.deploy.policy import Place, callers_policy, role_policy, statements_of
from pyworkflow_aws.deploy.source import Source, find_source
from pyworkflow_aws.deploy.target import ALIAS, KINDS, Target, kind_of, settle_python
from pyworkflow_aws.deploy.template import ANYWHERE, template
from pyworkflow_aws.settings import AwsSettings, DeploySettings


@frozen(kw_only=True)
class Wish:
    """What the command line asks for, besides the *target*.

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
    """How to talk to a person: *out* prints what was asked for, *tell* what goes on, *ask* raises unless told yes."""

    out: Callable[[str], object]
    tell: Callable[[str], object]
    ask: Callable[[str], object]

    def lines(self, lines: Iterable[str]) -> None:
        """Print *lines*."""
        for line in lines:
            self.out(line)


def wish(
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
) -> Wish:
    """Return what the options of the command mean.

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
    return Wish(target=made, source=source, settings=settings, requirements=requirements, aws=aws)


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


def bundle_of(asked: Wish, terminal: Terminal) -> Bundle:
    """Make the zip."""
    settings = asked.settings
    return build(
        asked.source,
        gather(asked.source.root, Exclusions(settings.exclude, settings.include)),
        requirements.read(asked.source.root, PACKAGES, asked.requirements),
        Platform(asked.target.python, asked.target.arch),
        services=settings.services,
        tell=terminal.tell,
    )


def deploy(asked: Wish, terminal: Terminal, *, only_plan: bool = False) -> None:
    """Bring the account to what is asked for, after a yes; or only say what would be done.

    Raises:
        ConfigError: It cannot be done.
        DeployFailed: AWS refused something.
    """
    account, place = connect(asked.aws)
    target = asked.target
    found = account.find(target)
    check(target, place, found)  # before anything that takes long
    bundle = bundle_of(asked, terminal)
    actions = plan(target, place, bundle.digest, found)
    terminal.lines(report.contents(bundle) if only_plan else [report.summary(bundle)])
    terminal.lines(report.steps(target, place, actions))
    if only_plan or not actions:
        return
    terminal.ask("Do this?")
    Deployer(account, target, bundle, terminal.tell).carry_out(actions)
    terminal.out(f"deployed: {target.name}:{ALIAS} in {place.region}")


def write(asked: Wish, terminal: Terminal, folder: Path) -> None:
    """Write the zip, a SAM template and the policies into *folder*; no account is needed.

    Raises:
        ConfigError: The zip cannot be made.
    """
    target = asked.target
    bundle = bundle_of(asked, terminal)
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
    """Delete what deployments of the function *name* made, after a yes.

    Raises:
        ConfigError: It is not ours.
        DeployFailed: AWS refused something.
    """
    account, place = connect(aws)
    target = Target(name=name, kind=KINDS["lambda"], module="", python="")
    found = account.find(target)
    items = doomed(account, target, place, found)
    if not items:
        terminal.out(f"nothing to do: there is nothing of {name!r} in {place.region}, account {place.account}")
        return
    terminal.out(f"to be deleted in {place.region}, account {place.account}:")
    terminal.lines(f"  {item.what}" for item in items)
    if running(account, target, found):
        terminal.out("runs are under way, and will be lost")
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
    """Return *settings* with the patterns of the command line besides."""
    return evolve(settings, exclude=(*settings.exclude, *exclude), include=(*settings.include, *include))
