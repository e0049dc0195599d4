"""G: what importing a package costs, and how much room it takes with all it needs."""

import importlib.metadata
import json
import subprocess
import sys

from measure import emit

_TOOLS = {"pip", "setuptools", "wheel"}  # in every environment

# In a process of its own, in which nothing is imported but what Python itself imports.
_PROGRAM = """
import sys, time
def memory():
    for line in open("/proc/self/status"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
before, loaded = memory(), len(sys.modules)
started = time.perf_counter()
__import__(sys.argv[1])
seconds = time.perf_counter() - started
print("[%r, %r, %r]" % (1e3 * seconds, (memory() - before) / 1024, len(sys.modules) - loaded))
"""


def installed() -> float:
    """Return the MB of all that is installed in this environment but its tools."""
    total = 0
    for dist in importlib.metadata.distributions():
        if dist.name not in _TOOLS:
            paths = [dist.locate_file(file) for file in dist.files or ()]
            total += sum(path.stat().st_size for path in paths if path.suffix != ".pyc" and path.is_file())
    return total / 1e6


def imported(module: str) -> list[float]:
    """Return ms, MB and the number of modules that importing *module* takes."""
    done = subprocess.run([sys.executable, "-I", "-c", _PROGRAM, module], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main(module: str) -> None:
    """Import *module* once for the byte code, then measured."""
    imported(module)
    ms, mb, modules = imported(module)
    emit(import_ms=ms, memory_mb=mb, modules=modules, installed_mb=installed())


main(sys.argv[1])
