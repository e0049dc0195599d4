"""``pyworkflow check``: finds in the source of workflows what breaks replay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pyworkflow.cli.view.output import Exit, print_json, say

if TYPE_CHECKING:
    from pyworkflow.check import Result


@click.command(short_help="Find in workflows what breaks replay.")
@click.argument("targets", metavar="MODULE|PATH...", nargs=-1, required=True)
@click.option("--select", metavar="RULES", multiple=True, help="Only these rules, such as PW101,PW2; may be repeated.")
@click.option("--ignore", metavar="RULES", multiple=True, help="Not these rules; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(
    targets: tuple[str, ...],
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    as_json: bool,  # noqa: FBT001 -- by keyword, from click
) -> None:
    """Find in workflows what breaks replay: the clock, chance, I/O, threads, sets, shared state, calls not awaited.

    Looks at files, at all files of a folder, or at a module or package by its dotted name, in the bodies of functions
    under @workflow and in the functions of the same module that they use. Nothing is imported or run. A line that ends
    in "# noqa: PW101" is excepted from that rule.

    \b
    Exit codes: 0 nothing found, 1 something found, 2 usage.

    \b
    Examples:
      pyworkflow check src
      pyworkflow check shop.flows --ignore PW106 --json
    """  # noqa: D301 -- \b is for click: it keeps the lines that follow as they are
    from pyworkflow.check import check as look

    result = look(targets, select=_split(select), ignore=_split(ignore))
    if as_json:
        print_json(_of_result(result))
    else:
        for finding in result.findings:
            click.echo(f"{finding.path}:{finding.line}:{finding.column}: {finding.rule} {finding.message}")
        say(_summary(result))
    if result.findings:
        click.get_current_context().exit(Exit.FAILED)


def _split(given: tuple[str, ...]) -> list[str]:
    return [part.strip() for item in given for part in item.split(",") if part.strip()]


def _summary(result: Result) -> str:
    found = _count(len(result.findings), "finding") if result.findings else "nothing found"
    return f"{found} in {_count(result.workflows, 'workflow')} of {_count(result.files, 'file')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _of_result(result: Result) -> dict[str, object]:
    import attrs

    from pyworkflow.check import RULES

    return {
        "findings": [{**attrs.asdict(finding), "name": RULES[finding.rule].name} for finding in result.findings],
        "files": result.files,
        "workflows": result.workflows,
    }
