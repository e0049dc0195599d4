"""The Celery app of an application, and the messages that are sent through it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from pyworkflow_celery.celery_application import celery_of
from pyworkflow_celery.sender import Sender

if TYPE_CHECKING:
    from celery import Celery

    from pyworkflow_celery.settings import CelerySettings


class Broker:
    """What the durable and the transient runtime send their messages with.

    Args:
        settings: Those of the application.
    """

    def __init__(self, settings: CelerySettings) -> None:
        self.settings = settings

    @cached_property
    def celery(self) -> Celery:
        """The Celery app.

        Raises:
            ConfigError: It cannot be had.
        """
        return celery_of(self.settings)

    @cached_property
    def sender(self) -> Sender:
        """What sends the messages of this process."""
        return Sender(self.celery)

    @property
    def queue(self) -> str:
        """The Celery queue for runs."""
        queue: str = self.settings.queue or self.celery.conf.task_default_queue
        return queue

    def close(self) -> None:
        """End the sender, if there is one."""
        if "sender" in vars(self):
            self.sender.close()
