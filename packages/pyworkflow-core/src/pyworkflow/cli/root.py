"""The command ``pyworkflow`` with its global options; its subcommands have a module each."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

import pyworkflow
from pyworkflow.cli.commands.check import check
from pyworkflow.cli.commands.histories import replay
from pyworkflow.cli.commands.hooks import hooks
from pyworkflow.cli.commands.plugins import plugins
from pyworkflow.cli.commands.run import run
from pyworkflow.cli.commands.runs import runs
from pyworkflow.cli.commands.schedules import schedules
from pyworkflow.cli.commands.storage import storage as storage_
from pyworkflow.cli.commands.worker import worker
from pyworkflow.cli.group import RootCommands
from pyworkflow.cli.session import Session

_EPILOG = """\b
Exit codes:
  0    done; for run: the workflow completed
  1    the workflow failed
  2    wrong usage or configuration, or no such run
  3    the run is blocked, and goes on after somebody looked at it
  4    the run was cancelled or terminated
  70   an error in pyworkflow itself
  130  interrupted; the run can be resumed

Settings come from the options, else from what a module configures, else from PYWORKFLOW_… variables, else from
[tool.pyworkflow] in pyproject.toml. Installed plugins may add commands; `pyworkflow plugins` lists them.
"""


@click.group(
    cls=RootCommands, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option("--storage", metavar="URL", help="Where runs are kept, such as sqlite:///workflows.db.")
@click.option("--runtime", metavar="NAME", help="Where workflows run that name no runtime, such as local.")
@click.option("-v", "--verbose", "verbosity", count=True, help="Show the log and whole tracebacks; -vv shows more.")
@click.version_option(pyworkflow.__version__, prog_name="pyworkflow")
@click.pass_context
def cli(ctx: click.Context, storage: str | None, runtime: str | None, verbosity: int) -> None:
    """Durable workflows as plain async Python."""
    ctx.obj = Session(storage, runtime, verbosity)
    ctx.obj.log()


@cli.command(short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes pyworkflow's commands and options in a shell.

    \b
    bash   pyworkflow completion bash > ~/.local/share/bash-completion/completions/pyworkflow
    zsh    pyworkflow completion zsh > ~/.zfunc/_pyworkflow      (a folder of your $fpath)
    fish   pyworkflow completion fish > ~/.config/fish/completions/pyworkflow.fish
    """  # noqa: D301 -- \b is for click: it keeps the lines that follow as they are
    made = get_completion_class(shell)
    if made is None:
        msg = f"click knows no shell {shell!r}"
        raise click.UsageError(msg)
    click.echo(made(cli, {}, "pyworkflow", "_PYWORKFLOW_COMPLETE").source())


for command in (run, worker, runs, hooks, schedules, storage_, check, replay, plugins):
    cli.add_command(command)
