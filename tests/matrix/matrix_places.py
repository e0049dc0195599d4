"""The runtimes and storages that the stories are played on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from attrs import frozen
from matrix_stories import STORIES, Story

from pyworkflow.backends.memory import MemoryStorage

RETRY = "fixed?delay=1ms"


@frozen
class Place:
    """A runtime, and a storage where it has one.

    Attributes:
        settings: Makes the settings of its app, with the help of fixtures.
        recorded: Whether its runs have histories.
        can: What is possible there that not every place has.
    """

    settings: Callable[[pytest.FixtureRequest], Mapping[str, Any]]
    recorded: bool = True
    can: frozenset[str] = frozenset({"", "hooks", "cancel"})

    def stories(self) -> list[Story]:
        """Return the stories that can be played here."""
        return [story for story in STORIES if story.needs in self.can]


def local(storage: Callable[[pytest.FixtureRequest], Any]) -> Place:
    return Place(lambda request: {"default_durable": True, "storage": storage(request)})


def celery(storage: str, **more: Any) -> Callable[[pytest.FixtureRequest], Mapping[str, Any]]:
    return lambda request: {**request.getfixturevalue("celery_workers")[storage], **more}


def lambda_(runtime: str) -> Callable[[pytest.FixtureRequest], Mapping[str, Any]]:
    return lambda request: request.getfixturevalue("functions")[runtime]


PLACES = {
    "local on memory": local(lambda _: MemoryStorage()),
    "local on SQLite": local(lambda request: f"sqlite:///{request.getfixturevalue('scratch')}/local.db"),
    "local on DynamoDB": local(lambda request: f"dynamodb://{request.getfixturevalue('new_table')('local')}"),
    "Celery on SQLite": Place(celery("sqlite")),
    "Celery on DynamoDB": Place(celery("dynamodb")),
    "durable Lambda": Place(lambda_("durable-lambda")),
    "local, transient": Place(lambda _: {"default_durable": False}, recorded=False),
    "Celery, transient": Place(celery("none", default_durable=False), recorded=False, can=frozenset({"", "cancel"})),
    "Lambda, transient": Place(lambda_("lambda"), recorded=False, can=frozenset({""})),
}
