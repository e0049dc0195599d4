"""The same workflows on every runtime and storage: results, errors, effects, and decisions are the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from matrix_places import PLACES
from matrix_stories import STORIES

pytestmark = pytest.mark.timeout(180)

Tell = Callable[[str], dict[str, Any]]
CELLS = [(place, story) for place, at in PLACES.items() for story in at.stories()]
RECORDED = [(place, story) for place, story in CELLS if PLACES[place].recorded]


def names(value: Any) -> str:
    return value if isinstance(value, str) else value.name


@pytest.mark.parametrize("place, story", CELLS, ids=names)
def test_the_result_and_the_effects_are_as_they_have_to_be(told: Tell, place: str, story: Any) -> None:
    found = told(place)[story.name]
    assert found.result == story.result
    assert type(found.result) is type(story.result)
    assert found.effects == sorted(story.effects)


@pytest.mark.parametrize("place, story", RECORDED, ids=names)
def test_the_same_is_decided_in_the_same_order(told: Tell, place: str, story: Any) -> None:
    found, there = told("local on memory")[story.name], told(place)[story.name]
    assert there.decisions == found.decisions
    assert there.answers == found.answers


def test_there_are_enough_workflows() -> None:
    assert len({story.flow.name for story in STORIES}) >= 25
