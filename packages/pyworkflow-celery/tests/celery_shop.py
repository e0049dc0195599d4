"""A user's own Celery app, with a task of its own, that workflows were added to."""

from __future__ import annotations

import os

from celery import Celery

import pyworkflow_celery
from pyworkflow import configure
from pyworkflow.testing.runtime_kit import workflows

app = Celery("shop", broker=os.environ.get("SHOP_BROKER", "memory://"), set_as_current=False)
app.conf.broker_connection_retry_on_startup = True
pyworkflow_celery.install(app)
configure(celery_app=app)
__all__ = ["workflows"]


@app.task(name="shop.note")
def note(log: str) -> None:
    workflows.note(log, "a task of the shop")
