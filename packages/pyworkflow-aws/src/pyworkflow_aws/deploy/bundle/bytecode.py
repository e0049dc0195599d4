"""Compiles modules ahead of time: a function's folder is read-only, so that each cold start would compile them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from pyworkflow_aws.deploy.bundle.pythons import find_python

_CODE = """
import compileall, py_compile, sys
compileall.compile_dir(sys.argv[1], maxlevels=100, quiet=2, force=True, stripdir=sys.argv[1], prependdir="/var/task",
    invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
"""


def precompile(folder: Path, python: str) -> bool:
    """Compile every module in *folder* for Python *python*; return whether that could be done here.

    The byte code depends on the source alone, and is never compared with it again.
    """
    command = find_python(python)
    if command is None:
        return False
    # A set of constants is written in the order of its hashes.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment["PYTHONHASHSEED"] = "0"
    compiling = [command, "-P", "-S", "-W", "ignore", "-c", _CODE, str(folder)]
    subprocess.run(compiling, env=environment, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 -- ours
    return True


def syntax_error(file: Path, python: str) -> str | None:
    """Return why *file* is not valid in Python *python*; None: it is, or that Python is not on this machine."""
    command = find_python(python)
    if command is None:
        return None
    code = "import sys; compile(open(sys.argv[1], 'rb').read(), sys.argv[1], 'exec')"
    reading = [command, "-I", "-W", "ignore", "-c", code, str(file)]
    done = subprocess.run(reading, capture_output=True, text=True, check=False)  # noqa: S603 -- ours
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it cannot be compiled"])[-1]
