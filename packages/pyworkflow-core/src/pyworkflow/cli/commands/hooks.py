"""``pyworkflow hooks …``: what runs wait for, and telling them."""

from __future__ import annotations

import sys

import click

from pyworkflow.cli.arguments import value_of
from pyworkflow.cli.group import Commands, global_options, pass_session
from pyworkflow.cli.load import load_module
from pyworkflow.cli.session import Session
from pyworkflow.cli.view.output import print_json, print_table, say
from pyworkflow.errors import ConfigError


@click.group(cls=Commands)
def hooks() -> None:
    """See which hooks are open, and send payloads to them."""


@hooks.command("list")
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@global_options
@pass_session
def list_(session: Session, run_id: str | None, as_json: bool) -> None:  # noqa: FBT001 -- by keyword, from click
    """List open hooks, of one run or of all. Tokens are secrets, and only their SHA-256 is known here."""
    found = session.ask(lambda runtime: runtime.hooks(run_id))
    if as_json:
        print_json(
            [
                {"run": hook.run_id, "operation": hook.op, "name": hook.name, "many": hook.many, "sha256": hook.token}
                for hook in found
            ]
        )
        return
    rows = [
        (hook.name, hook.run_id, str(hook.op), "any number" if hook.many else "one", hook.token[:12]) for hook in found
    ]
    print_table(("hook", "run", "operation", "payloads", "sha256"), rows, give="hook", right=("operation",))


@hooks.command()
@click.argument("token")
@click.argument("payload", required=False, default="null")
@click.option(
    "--module",
    "-m",
    "modules",
    multiple=True,
    metavar="MODULE",
    help="Where its workflow is, if the hook has a type.",
)
@global_options
@pass_session
def resume(session: Session, token: str, payload: str, modules: tuple[str, ...]) -> None:
    """Send a payload to the hook with this token.

    PAYLOAD is a JSON value; what is not JSON is text. TOKEN may be - to read it from standard input, which keeps it out
    of the shell's history.
    """
    for module in modules:
        load_module(module)
    secret = sys.stdin.readline().strip() if token == "-" else token  # noqa: S105 -- says where it is
    app = session.app()
    try:
        run_id = session.ask(lambda _: app.resume_hook(secret, value_of(payload)))
    except ConfigError as error:
        if modules:
            raise
        msg = f"{error}: say -m MODULE"
        raise ConfigError(msg) from error
    say(f"run {run_id} has its payload; a worker that has it, or the next one, goes on with it")
