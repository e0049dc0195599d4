"""Groups of commands: how errors are reported, where commands come from, and what an unknown one gives."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any, TypeVar

import click

from pyworkflow.app import default_app
from pyworkflow.cli.session import Session
from pyworkflow.cli.view.output import Exit, flat, say
from pyworkflow.config.coercion import did_you_mean
from pyworkflow.errors import WorkflowError

F = TypeVar("F", bound=Callable[..., Any])

pass_session = click.make_pass_decorator(Session, ensure=True)


class Commands(click.Group):
    """A group that names the nearest command when it does not have the one it is given."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that *args* begin with."""
        name = args[0]
        if self.get_command(ctx, name) is None and not ctx.resilient_parsing and not name.startswith("-"):
            ctx.fail(f"there is no command {name!r}{did_you_mean(name, self.commands)}; see {ctx.command_path} --help")
        return super().resolve_command(ctx, args)


class RootCommands(Commands):
    """The command line itself: asks plugins for the commands it lacks, and tells errors in a sentence."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; if there is none, plugins are loaded and asked for it."""
        command = super().get_command(ctx, cmd_name)
        if command is None and not ctx.resilient_parsing and not cmd_name.startswith("-"):
            default_app().plugins.commands(self)  # it logs what fails there
            command = super().get_command(ctx, cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what goes wrong becomes a sentence and an exit code."""
        try:
            return super().invoke(ctx)
        except WorkflowError as error:
            say(f"pyworkflow: {flat(error)}")
            session = ctx.find_object(Session)
            if session is not None and session.verbosity:
                traceback.print_exception(error)
            ctx.exit(Exit.WRONG)
        except (KeyboardInterrupt, click.Abort):
            say("")
            ctx.exit(Exit.INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit, OSError):
            raise
        except Exception:  # noqa: BLE001 -- whatever it is, exit code 1 would say that a workflow failed
            traceback.print_exc()
            say("pyworkflow: this is an error in pyworkflow or in a plugin, not in what you typed")
            ctx.exit(Exit.INTERNAL)


def global_options(command: F) -> F:
    """Let a command take the global options too, as people type them there."""

    def keep(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value is not None and parameter.name is not None:
            setattr(ctx.ensure_object(Session), parameter.name, value)

    for name in ("--runtime", "--storage"):
        command = click.option(name, expose_value=False, hidden=True, callback=keep)(command)
    return command
