"""Which changes of its code a run knows: what `pyworkflow.patched` answers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from attrs import define, field

from pyworkflow.events import Patched


@define(eq=False)
class Patches:
    """The answers that one run was given; each question has one answer for the whole of the run.

    Attributes:
        knows: Called with the id of a change the first time the workflow asks for it, by runtimes whose histories have
            no `Patched`; True: the run takes the new code. None: a run knows the changes that its history has, and all
            that it asks for beyond the end of its history.
        unrecorded: The changes that the run knows and that its history does not have.
    """

    knows: Callable[[str], bool] | None = None
    unrecorded: list[str] = field(factory=list, init=False)
    _known: dict[str, bool] = field(factory=dict, init=False)

    def learn(self, change: str) -> None:
        """Note that history has *change*."""
        self._known[change] = True

    def ask(self, change: str, *, replaying: bool) -> bool:
        """Return whether the run knows *change*."""
        known = self._known.get(change)
        if known is None:
            known = self._known[change] = not replaying if self.knows is None else self.knows(change)
            if known:
                self.unrecorded.append(change)
        return known

    def take(self, at: datetime) -> list[Patched]:
        """Return, as events, the changes that history does not have, and count them as recorded."""
        changes, self.unrecorded = self.unrecorded, []
        return [Patched(at, change) for change in changes]
