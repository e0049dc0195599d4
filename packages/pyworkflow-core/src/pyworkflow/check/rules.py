"""The rules: what each looks for, why it breaks replay, and what to write instead."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from pyworkflow.config.coercion import did_you_mean
from pyworkflow.errors import ConfigError


@frozen
class Rule:
    """Something that workflows must not do.

    Attributes:
        id: What findings and ``# noqa`` comments name it by.
        name: The same for people.
        text: What a finding says; ``{what}`` stands for the code that was found.
    """

    id: str
    name: str
    text: str


_STEP = "put it into a @step"

RULES: dict[str, Rule] = {
    rule.id: rule
    for rule in (
        Rule("PW001", "unreadable", "this file cannot be checked: {what}"),
        Rule("PW101", "clock", "{what} reads the clock, which shows another time on replay; use pyworkflow.now()"),
        Rule(
            "PW102",
            "chance",
            "{what} comes out differently on replay; use pyworkflow.random(), and a @step for anything secret",
        ),
        Rule("PW103", "uuid", "{what} makes another id on replay; use pyworkflow.uuid4()"),
        Rule(
            "PW104",
            "blocking-sleep",
            "{what} holds up every run of the worker and is slept again on replay; use await pyworkflow.sleep()",
        ),
        Rule(
            "PW105",
            "environment",
            "{what} belongs to this process, and a replay may be in another one; make it an argument of the workflow, "
            "or read it in a @step",
        ),
        Rule(
            "PW106",
            "identity",
            "{what} differs from process to process; use a key of the object, or hashlib",
        ),
        Rule("PW201", "files", f"{{what}} reads or writes outside the run, and does so again on replay; {_STEP}"),
        Rule("PW202", "network", f"{{what}} talks to the network, and does so again on replay; {_STEP}"),
        Rule("PW203", "processes", f"{{what}} has to do with another process, again on replay; {_STEP}"),
        Rule(
            "PW204",
            "threads",
            f"{{what}} runs beside the workflow, in an order that no replay repeats; {_STEP}, or use "
            "asyncio.gather() for steps",
        ),
        Rule(
            "PW302",
            "set-order",
            "the order of the set {what} differs from process to process; go through sorted(...), or use a list",
        ),
        Rule(
            "PW401",
            "outside-state",
            "{what} changes what outlives the run, and a replay changes it again; keep it in a variable of the "
            "workflow, or change it in a @step",
        ),
        Rule("PW402", "not-awaited", "{what} is not awaited, so it never runs; write await {what}"),
    )
}


def chosen(select: Iterable[str], ignore: Iterable[str]) -> frozenset[str]:
    """Return the ids of the rules that are looked for.

    Args:
        select: Ids, or what ids begin with; none: all rules.
        ignore: The same, of rules that are left out.

    Raises:
        ConfigError: There is no such rule.
    """
    return (_matching(select) or frozenset(RULES)) - _matching(ignore)


def _matching(prefixes: Iterable[str]) -> frozenset[str]:
    found: set[str] = set()
    for prefix in prefixes:
        matching = {id_ for id_ in RULES if prefix and id_.startswith(prefix.upper())}
        if not matching:
            msg = f"there is no rule {prefix!r}{did_you_mean(prefix.upper(), RULES)}; there are {', '.join(RULES)}"
            raise ConfigError(msg)
        found |= matching
    return frozenset(found)
