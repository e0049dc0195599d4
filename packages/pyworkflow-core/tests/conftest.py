"""What the tests of the worker share is found, and a step can be held until its test lets it end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))  # pytest imports test files by path

import worker_flows

settings.register_profile("loaded", deadline=None)  # a machine may be busy with something else
settings.load_profile("loaded")


@pytest.fixture
def gate() -> Iterator[asyncio.Event]:
    """What step `worker_flows.held` waits for."""
    worker_flows.gates[:] = [asyncio.Event()]
    yield worker_flows.gates[0]
    worker_flows.gates.clear()
