"""``pyworkflow storage …``: what a storage needs done before runs can be kept in it."""

from __future__ import annotations

import asyncio

import click

from pyworkflow.cli.group import Commands, global_options, pass_session
from pyworkflow.cli.session import Session, described
from pyworkflow.config.config_string import Spec, build
from pyworkflow.errors import ConfigError, Unsupported
from pyworkflow.ports import NeedsInit


@click.group(cls=Commands)
def storage() -> None:
    """Prepare the place where runs are kept."""


@storage.command(short_help="Make the storage, such as a table in the cloud.")
@click.option("-o", "--option", "options", metavar="NAME=VALUE", multiple=True, help="As the storage takes them.")
@global_options
@pass_session
def init(session: Session, options: tuple[str, ...]) -> None:
    """Make the storage, such as a table in the cloud; what is there already stays as it is.

    An option that the storage does not know is refused with a list of those it knows. DynamoDB takes pitr=false, to do
    without point-in-time recovery, and kms_key=KEY.
    """
    app = session.app()
    made = app.storage
    if not isinstance(made, NeedsInit):
        msg = f"{described(app)} needs no preparation: it is made when it is first used"
        raise Unsupported(msg)
    given = dict(map(_pair, options))
    for line in asyncio.run(_awaited(made, given)):
        click.echo(line)


async def _awaited(made: NeedsInit, given: dict[str, str]) -> list[str]:
    return list(await build(made.init, Spec("init", options=given), "command"))


def _pair(option: str) -> tuple[str, str]:
    name, equals, value = option.partition("=")
    if not equals or not name:
        msg = f"{option!r} is not of the form name=value"
        raise ConfigError(msg)
    return name, value
