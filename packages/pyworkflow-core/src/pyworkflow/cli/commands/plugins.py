"""``pyworkflow plugins``: what is installed, what it offers, and what failed; and beginning a new one."""

from __future__ import annotations

import attrs
import click

from pyworkflow.app import default_app
from pyworkflow.cli.commands.new_plugin import new
from pyworkflow.cli.group import Commands
from pyworkflow.cli.view.output import Exit, print_json, print_table, say
from pyworkflow.plugins.distributions import conflicts
from pyworkflow.plugins.kinds import PluginReport

_HOOKS = {
    "pyworkflow_converter": "a converter",
    "pyworkflow_event": "an observer of events",
    "pyworkflow_ended": "an observer of runs that end",
    "pyworkflow_commands": "commands",
}
"""What a plugin offers that has no names of its own."""


@click.group(cls=Commands, invoke_without_command=True, short_help="List the plugins and what each offers.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def plugins(ctx: click.Context, as_json: bool) -> None:  # noqa: FBT001 -- by keyword, from click
    """List the plugins: what each offers, and what could not be loaded and why.

    Exits with 1 if a plugin is broken, or if another distribution is in the way of this one.
    """
    if ctx.invoked_subcommand is not None:
        return
    reports, foreign = default_app().plugins.report(), conflicts()
    if as_json:
        print_json({"plugins": [attrs.asdict(report) for report in reports], "conflicts": foreign})
    else:
        rows = [(report.name, _source(report), _offers(report)) for report in reports]
        print_table(("plugin", "from", "offers"), rows, give="offers")
        for line in foreign:
            say(line)
    if foreign or any(report.error is not None for report in reports):
        ctx.exit(Exit.FAILED)


plugins.add_command(new)


def _source(report: PluginReport) -> str:
    source = report.distribution
    return f"{source.name} {source.version}".strip() or "-"


def _offers(report: PluginReport) -> str:
    if report.blocked:
        return "blocked by PYWORKFLOW_BLOCK_PLUGINS"
    if report.error is not None:
        return f"broken: {report.error}"
    if report.needs is not None:
        return f"not usable: {report.needs}"
    offers = [f"{kind}: {', '.join(names)}" for kind, names in report.offers.items() if names]
    words = [word for hook, word in _HOOKS.items() if hook in report.hooks]
    return "; ".join([*offers, *words]) or "nothing"
