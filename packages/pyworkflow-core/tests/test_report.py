"""The capability report says what a backend can do, and how the cases of the kit ended."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

BACKEND = """
from datetime import timedelta

import pytest

from pyworkflow import App
from pyworkflow.engine.runtime import StoredRuntime
from pyworkflow.errors import Unsupported
from pyworkflow.backends.memory import MemoryStorage
from pyworkflow.ports import Mode, RuntimeOffer, hookimpl
from pyworkflow.backends.retries import Fixed
from pyworkflow.testing.retries import RetryPolicyConformance
from pyworkflow.testing.runtime import DurableConformance


class Once(StoredRuntime):
    async def retry(self, run_id):
        raise Unsupported("start a new run")


class Plugin:
    @hookimpl
    def pyworkflow_runtimes(self):
        return {"once": RuntimeOffer(Once, frozenset({Mode.DURABLE}), Mode.DURABLE)}


class TestOnce(DurableConformance):
    can_retry = False

    @pytest.fixture
    def make_app(self):
        storage = MemoryStorage()
        plugin = Plugin()
        return lambda: App(plugins=[plugin], storage=storage, default_runtime="once", default_retry="fixed?delay=1ms")


class Negative:
    def delay(self, attempt, error):
        return timedelta(seconds=-1)


class TestNegative(RetryPolicyConformance):
    @pytest.fixture
    def policy(self):
        return Negative()


def test_of_its_own():
    pass
"""

CASES = "retried_at_the_step or gather or none_or_not_negative or plain_method or of_its_own"


@pytest.fixture(scope="module", params=[(), ("-n", "2")], ids=["in one process", "with pytest-xdist"])
def report(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("report")
    (folder / "test_backend.py").write_text(BACKEND)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", CASES, *request.param]
    command += ["--pyworkflow-report", "out.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert "1 failed" in done.stdout, done.stdout + done.stderr
    return json.loads((folder / "out.json").read_text())


def test_each_conformance_class_is_in_it(report):
    found = {tested["class"]: tested["kit"] for tested in report["classes"]}
    assert found == {
        "test_backend.py::TestOnce": ["DurableConformance", "RuntimeConformance"],
        "test_backend.py::TestNegative": ["RetryPolicyConformance"],
    }


def test_it_says_what_is_supported_and_what_is_absent(report):
    runtime, policy = report["classes"]
    assert runtime["absent"] == ["can_retry"]
    assert runtime["supported"] == ["can_cancel", "children_are_runs", "guards_tokens", "needs_its_process"]
    assert (policy["supported"], policy["absent"]) == (["seeded"], [])


def test_what_asks_for_an_absent_capability_was_refused(report):
    cases = report["classes"][0]["cases"]
    assert cases["test_a_failed_run_is_retried_at_the_step_that_failed"] == "refused"
    assert cases["test_it_gives_the_result[gather of chains]"] == "passed"
    assert (report["classes"][0]["refused"], report["classes"][0]["failed"]) == (1, 0)


def test_a_case_that_failed_is_named(report):
    policy = report["classes"][1]
    assert policy["cases"]["test_delay_is_none_or_not_negative"] == "failed"
    assert (policy["passed"], policy["failed"]) == (1, 1)


def test_it_says_of_what_it_is(report):
    assert report["pyworkflow"]
    assert report["python"] == ".".join(map(str, sys.version_info[:3]))
