"""A Celery app with one task that adds one."""

import os

from celery import Celery

app = Celery("raw", broker=os.environ["BENCH_REDIS"] + "/0", backend=os.environ["BENCH_REDIS"] + "/1")


@app.task
def add_one(number: int) -> int:
    return number + 1


@app.task(ignore_result=True)
def nothing() -> None:
    pass
