"""Recorded histories as tests: a change of a workflow that would block runs in progress fails here first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyworkflow.app import default_app
from pyworkflow.authoring.definitions import Workflow
from pyworkflow.errors import NonDeterminism
from pyworkflow.inspection.export import from_json
from pyworkflow.inspection.replay import replay_history


def assert_replays(workflow: Workflow[..., Any], *histories: str | Path) -> None:
    """Replay exported runs against today's code of *workflow*.

    Args:
        workflow: The workflow.
        histories: Files that ``pyworkflow runs export`` wrote, or folders of them.

    Raises:
        AssertionError: A run could not go on with this code; or there is no history at all.
    """
    files: list[Path] = []
    for place in map(Path, histories):
        files += sorted(place.glob("*.json")) if place.is_dir() else [place]
    if not files:
        msg = f"there are no histories in {', '.join(map(str, histories))}"
        raise AssertionError(msg)
    for file in files:
        _, events = from_json(file.read_bytes(), str(file))
        try:
            replay_history(workflow, events, default_app().codec)
        except NonDeterminism as error:
            msg = f"{file} does not replay: {error}"
            raise AssertionError(msg) from error
