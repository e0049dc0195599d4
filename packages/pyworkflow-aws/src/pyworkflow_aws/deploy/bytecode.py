"""Compiles modules ahead: a function's folder is read-only, so without byte code every cold start compiles them anew."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

_CODE = """
import compileall, py_compile, sys
compileall.compile_dir(sys.argv[1], maxlevels=100, quiet=2, force=True, stripdir=sys.argv[1], prependdir="/var/task",
    invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
"""


def interpreter(python: str) -> str | None:
    """Return an interpreter of version *python*, such as ``3.13``, on this machine; None: there is none that runs."""
    if python == ".".join(map(str, sys.version_info[:2])):
        return sys.executable
    found = shutil.which(f"python{python}")
    if found is None:
        return None
    asked = [found, "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)  # noqa: S603 -- found on the path
    return found if done.returncode == 0 and done.stdout.strip() == python else None  # pyenv has names without Pythons


def precompile(folder: Path, python: str) -> bool:
    """Compile every module in *folder* for Python *python*; return whether that could be done here.

    The byte code depends on the source alone, and is never held against it again.
    """
    command = interpreter(python)
    if command is None:
        return False
    # A set of constants is written in the order of its hashes.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment["PYTHONHASHSEED"] = "0"
    compiling = [command, "-P", "-S", "-W", "ignore", "-c", _CODE, str(folder)]
    subprocess.run(compiling, env=environment, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 -- ours
    return True
