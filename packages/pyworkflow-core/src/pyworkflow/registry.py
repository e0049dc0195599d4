"""Where decorated workflows and steps are known by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import Factory, define

from pyworkflow.codec import Codec
from pyworkflow.errors import DefinitionError

if TYPE_CHECKING:
    from typing import Any

    from pyworkflow.definitions import Step, Workflow


@define(eq=False)
class Registry:
    """The workflows and steps of an application, and the codec for what goes into and comes out of them."""

    codec: Codec = Factory(Codec)
    workflows: dict[str, Workflow[..., Any]] = Factory(dict)
    steps: dict[str, Step[..., Any]] = Factory(dict)

    def add_workflow(self, workflow: Workflow[..., Any]) -> None:
        """Make *workflow* known.

        Raises:
            DefinitionError: Another one has its name.
        """
        _add(self.workflows, workflow, "workflow")

    def add_step(self, step: Step[..., Any]) -> None:
        """Make *step* known.

        Raises:
            DefinitionError: Another one has its name.
        """
        _add(self.steps, step, "step")


def _add(known: dict[str, Any], new: Any, what: str) -> None:
    old = known.get(new.name)
    if old is not None and not _same(old, new):
        msg = (
            f"two {what}s are named {new.name!r}: {_place(old)} and {_place(new)}; "
            f'give one of them another name: @{what}(name="…")'
        )
        raise DefinitionError(msg)
    known[new.name] = new


def _same(old: Any, new: Any) -> bool:
    """Whether they are one definition met twice: a module run as a script and imported, a closure, a notebook cell."""
    a, b = old.function.__code__, new.function.__code__
    if b.co_filename.startswith("<") or "ipykernel" in b.co_filename:
        return True
    return (a.co_filename, a.co_firstlineno) == (b.co_filename, b.co_firstlineno)


def _place(definition: Any) -> str:
    code = definition.function.__code__
    return f"{code.co_filename}:{code.co_firstlineno}"


default_registry = Registry()
