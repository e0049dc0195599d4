"""Finds uv, and interpreters of other versions, on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path


def find_uv() -> str | None:
    """Return the path of uv: beside the interpreter that runs this, or on the path."""
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.is_file() else shutil.which("uv")


def find_python(version: str) -> str | None:
    """Return an interpreter of *version*, such as ``3.13``; None: there is none that runs. Nothing is downloaded."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    names = [shutil.which(f"python{version}"), *map(str, sorted(pyenv.glob(f"{version}.*/bin/python{version}")))]
    for name in filter(None, names):
        if _output([name, "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]) == version:
            return name  # what is on the path may be a shim of pyenv for a version that is not selected here
    uv = find_uv()
    return None if uv is None else _output([uv, "python", "find", "--no-project", "--no-python-downloads", version])


def _output(command: list[str]) -> str | None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- found on the path
    return done.stdout.strip() if done.returncode == 0 else None
