"""E: plain Celery on Redis: no-op tasks, and chains of ten."""

import time

import redis
from celery import chain
from celery_worker import until, worker
from measure import STEPS, emit
from raw_celery_app import add_one, app, nothing

TASKS, CHAINS = 1000, 20


def chain_of_ten() -> chain:
    return chain(add_one.s(0), *(add_one.s() for _ in range(STEPS - 1)))


with worker("celery", "-A", "raw_celery_app", "worker", "--concurrency", "2", "-l", "WARNING"):
    add_one.delay(1).get(timeout=30)
    with redis.Redis.from_url(app.conf.broker_url) as broker:
        started = time.perf_counter()
        for _ in range(TASKS):
            nothing.delay()
        until(lambda: not broker.llen("celery") and not broker.hlen("unacked"))
        ignored = TASKS / (time.perf_counter() - started)
    started = time.perf_counter()
    for result in [add_one.delay(1) for _ in range(TASKS)]:
        result.get()
    kept = TASKS / (time.perf_counter() - started)
    chain_of_ten().delay().get()
    started = time.perf_counter()
    for _ in range(CHAINS):
        assert chain_of_ten().delay().get() == STEPS
    one_by_one = (time.perf_counter() - started) / CHAINS
    started = time.perf_counter()
    for result in [chain_of_ten().delay() for _ in range(CHAINS)]:
        result.get()
    at_once = CHAINS * STEPS / (time.perf_counter() - started)
emit(tasks_per_s=ignored, tasks_with_results_per_s=kept, in_flight_per_s=at_once, one_ms=1e3 * one_by_one)
