"""Checks the workflows of some files, and the functions that they use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import frozen

from pyworkflow.check.body import Body
from pyworkflow.check.breach import Breach
from pyworkflow.check.names import Function, Scope
from pyworkflow.check.noqa import is_excepted
from pyworkflow.check.program import Module, Program, parse, workflows_in
from pyworkflow.check.rules import RULES, chosen
from pyworkflow.check.sources import sources


@frozen(order=True)
class Finding:
    """Something in a file that breaks replay; lines and columns count from 1.

    Attributes:
        path: The file.
        line: Where it is.
        column: The same, in characters.
        rule: The id of the rule.
        message: What is wrong, and what to write instead.
        workflow: The workflow that breaks the rule, itself or through a function that it uses; empty if the whole file
            cannot be checked.
    """

    path: str
    line: int
    column: int
    rule: str
    message: str
    workflow: str


@frozen
class Result:
    """What a check came to.

    Attributes:
        findings: What was found, by file and line.
        files: How many files were looked at.
        workflows: How many workflows they have.
    """

    findings: tuple[Finding, ...]
    files: int
    workflows: int


def check(targets: Sequence[str], *, select: Sequence[str] = (), ignore: Sequence[str] = ()) -> Result:
    """Check the workflows of files, folders and modules; nothing of them is imported.

    Args:
        targets: Paths, or dotted names of modules.
        select: The rules to look for, or what their ids begin with; none: all.
        ignore: The same, of rules to leave out.

    Raises:
        ConfigError: There is no such target or rule.
    """
    rules = chosen(select, ignore)
    found: set[Finding] = set()
    modules: list[Module] = []
    files = {source.path.resolve(): source for target in targets for source in sources(target)}
    for source in files.values():
        try:
            modules.append(parse(source))
        except (SyntaxError, ValueError, OSError, RecursionError, MemoryError) as error:
            found.add(_unreadable(source.path, error))
    program = Program.of(modules)
    bodies: dict[Function, Body] = {}
    workflows = 0
    for module in modules:
        for function, scope in workflows_in(module):
            workflows += 1
            try:
                found.update(_in_workflow(function, scope, module, program, bodies))
            except RecursionError as error:
                found.add(_unreadable(module.path, error))
    kept = sorted(finding for finding in found if finding.rule in rules)
    return Result(tuple(_first_of_each(kept)), len(files), workflows)


def _unreadable(path: Path, error: Exception) -> Finding:
    line, column, what = 1, 1, str(error)
    match error:
        case SyntaxError():
            line, column, what = error.lineno or 1, max(error.offset or 1, 1), error.msg
        case OSError():
            what = error.strerror or str(error)
        case RecursionError() | MemoryError():  # the parser raises the latter
            what = "it is nested too deeply"
    return Finding(_displayed(path), line, column, "PW001", RULES["PW001"].text.format(what=what), "")


def _in_workflow(
    workflow: Function, scope: Scope, module: Module, program: Program, bodies: dict[Function, Body]
) -> Iterator[Finding]:
    """Yield what is found in a workflow and, one after another, in the functions that it uses.

    Args:
        workflow: The function.
        scope: Where it is declared.
        module: Its module.
        program: All modules.
        bodies: What was looked at already, and will be by this.
    """
    ways: dict[Function, tuple[str, ...]] = {workflow: ()}
    queue = [(workflow, scope)]
    for function, where in queue:  # it grows meanwhile
        body = bodies.get(function) or bodies.setdefault(function, Body(function, where, program))
        for breach in body.breaches:
            if not is_excepted(breach.rule, _lines(breach), module.exceptions):
                yield _finding(breach, workflow, ways[function], module)
        for helper, home in body.helpers:
            if helper not in ways:
                ways[helper] = (*ways[function], helper.name)
                queue.append((helper, home))


def _lines(breach: Breach) -> tuple[int, ...]:
    return breach.node.lineno, breach.node.end_lineno or breach.node.lineno


def _finding(breach: Breach, workflow: Function, way: tuple[str, ...], module: Module) -> Finding:
    node = breach.node
    message = RULES[breach.rule].text.format(what=breach.what)
    if way:
        message += f" (workflow {workflow.name!r} gets here by {' > '.join(f'{name}()' for name in way)})"
    column = module.column(node.lineno, node.col_offset)
    return Finding(_displayed(module.path), node.lineno, column, breach.rule, message, workflow.name)


def _displayed(path: Path) -> str:
    """Return a path as short as it is from here."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _first_of_each(findings: Sequence[Finding]) -> Iterator[Finding]:
    """Yield one finding of a rule for each place, however many workflows get there."""
    seen: set[tuple[str, int, int, str]] = set()
    for finding in findings:
        place = (finding.path, finding.line, finding.column, finding.rule)
        if place not in seen:
            seen.add(place)
            yield finding
