#!/usr/bin/env python3
"""The one door for a fresh machine with Python and pip: sets up `.venv` beside this file and runs something in it."""

import sys

if sys.version_info < (3, 11):
    sys.exit(
        f"pyworkflow needs Python 3.11 or newer, and this is Python {sys.version_info.major}.{sys.version_info.minor}."
    )

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
BOOTSTRAP = ROOT / ".bootstrap"
STAMP = VENV / "pyworkflow-setup.json"
CONSTRAINTS = ROOT / "constraints.txt"

# What each kit installs: packages of this repository (paths, so that pip never looks their names up), then groups.
DEMO = (["packages/pyworkflow-core[cli]", "packages/pyworkflow-sqlite", "."], [])
DEV = (
    [
        "packages/pyworkflow-core[cli,otel,schedules,testing]",
        "packages/pyworkflow-sqlite",
        "packages/pyworkflow-celery",
        "packages/pyworkflow-aws",
        ".",
    ],
    ["test", "redis", "nox"],
)
KITS = {"demo": DEMO, "dev": DEV}

# Tests go to as many processes as there are processors, file by file, as a file shares its servers.
SPREAD = ["-n", "auto", "--maxprocesses", "4", "--dist", "loadfile"]

COMMANDS = {
    "demo": "run the example, a payment that survives a crash; what follows goes to it",
    "test": "run every test; what follows goes to pytest",
    "nox": "run nox; what follows goes to it",
    "setup": "only set up",
}


def main(arguments: list[str]) -> int:
    """Do what the command line says and return the exit code."""
    command, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if command not in COMMANDS:
        print("usage: dev.py COMMAND ...", *(f"  {name:7}{text}" for name, text in COMMANDS.items()), sep="\n")
        return 0 if command in {"-h", "--help"} else 2
    set_up("demo" if command == "demo" else "dev")
    if command == "demo":
        return run(PYTHON, "examples/payment_demo.py", *rest)
    if command == "test":
        return run(PYTHON, "-m", "pytest", *SPREAD, *rest)
    if command == "nox":
        return run(PYTHON, "-m", "nox", *rest)
    return 0


def set_up(kit: str) -> None:
    """Make the environment hold *kit*, unless it does already."""
    digest = fingerprint()
    stamp = json.loads(STAMP.read_text()) if STAMP.exists() else {}
    fresh = stamp.get("digest") != digest
    kits = [] if fresh else stamp["kits"]
    if kit in kits or "dev" in kits:
        return
    started = time.monotonic()
    STAMP.unlink(missing_ok=True)
    if fresh:
        say(f"making {VENV.name} with Python {sys.version.split()[0]}")
        make_venv()
    say("installing from the package index (once; well under a minute on most machines)")
    install(*group("build"))
    packages, groups = KITS[kit]
    editable = [part for package in packages for part in ("--editable", f"{ROOT / package}")]
    install("--no-build-isolation", *editable, *(item for name in groups for item in group(name)))
    STAMP.write_text(json.dumps({"digest": digest, "kits": [*kits, kit]}))
    say(f"set up in {time.monotonic() - started:.0f} s")


def fingerprint() -> str:
    """A digest of all that decides what the environment holds."""
    parts = [sys.version, os.fspath(ROOT), CONSTRAINTS.read_text()]
    for path in sorted([ROOT / "pyproject.toml", *ROOT.glob("packages/*/pyproject.toml")]):
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        parts.append(json.dumps([table.get(key) for key in ("build-system", "project", "dependency-groups")]))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def group(name: str) -> list[str]:
    """The requirements of a dependency group; the pip of Python 3.11 cannot read them itself."""
    table: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return table["dependency-groups"][name]


def make_venv() -> None:
    """Make the environment empty, with pip in it."""
    if importlib.util.find_spec("ensurepip"):
        quietly(sys.executable, "-m", "venv", "--clear", VENV)
        return
    # Debian ships `venv` without the part that puts pip in; virtualenv brings its own.
    say("this Python cannot make environments by itself, fetching virtualenv")
    shutil.rmtree(BOOTSTRAP, ignore_errors=True)
    quietly(sys.executable, "-m", "pip", "install", "--target", BOOTSTRAP, "-c", CONSTRAINTS, "virtualenv")
    paths = os.pathsep.join(filter(None, [str(BOOTSTRAP), os.environ.get("PYTHONPATH")]))
    quietly(sys.executable, "-m", "virtualenv", "--clear", VENV, env={**os.environ, "PYTHONPATH": paths})


def install(*arguments: str) -> None:
    """Have the environment's pip install something, at the versions of the constraints."""
    quietly(PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "-c", CONSTRAINTS, *arguments)


def quietly(*command: str | Path, env: dict[str, str] | None = None) -> None:
    """Run a command of the set-up; its output is shown only if it fails, and then this program ends."""
    done = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        sys.stderr.write(done.stdout.decode(errors="replace"))
        sys.exit(f"dev.py: setting up failed at: {' '.join(map(str, command))}")


def run(*command: str | Path) -> int:
    """Run what was asked for, with the environment's commands first on the path."""
    path = os.pathsep.join([str(BIN), os.environ.get("PATH", os.defpath)])
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "PATH": path}, check=False).returncode


def say(text: str) -> None:
    """Tell what is going on."""
    print(f"dev.py: {text}", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
