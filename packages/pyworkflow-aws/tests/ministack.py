"""ministack, an emulator of AWS: in an environment of its own, started on a free loopback port, ended by its pid."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

PINS = Path(__file__).with_name("ministack-constraints.txt")
CACHE = Path(__file__).parents[3] / ".cache"


def installed():
    """Return the Python of an environment that holds ministack; made once for each set of pins and each Python."""
    digest = hashlib.sha256(PINS.read_bytes() + sys.version.encode()).hexdigest()[:12]
    venv = CACHE / f"ministack-{digest}"
    stamp, python = venv / "complete", venv / "bin" / "python"
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "ministack.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another test run may be at it
        if not stamp.exists():
            shutil.rmtree(venv, ignore_errors=True)
            quietly(sys.executable, "-m", "venv", venv)
            quietly(python, "-m", "pip", "install", "--disable-pip-version-check", "--no-deps", "-r", PINS)
            stamp.touch()
    return python


def quietly(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        msg = f"{' '.join(map(str, command))} failed:\n{done.stdout}"
        raise RuntimeError(msg)


@contextlib.contextmanager
def running(folder):
    """Run ministack while the context lasts and yield its URL.

    It enforces IAM policies, except for the key ``test`` and for keys that are an account's number of 12 digits, which
    may do everything, the latter in that account.

    Args:
        folder: Where it may write; its log is there too.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTEST", "COV"))}
    env |= {
        "BIND_HOST": "127.0.0.1",  # by default it listens to the whole network
        "GATEWAY_PORT": str(port),
        "MINISTACK_HOST": "127.0.0.1",
        "AUTH": "true",
        "LAMBDA_EXECUTOR": "local",
        "TMPDIR": str(folder),
        "STATE_DIR": str(folder / "state"),
    }
    log = folder / "ministack.log"
    command = [installed(), "-m", "ministack"]
    with log.open("wb") as output:
        server = subprocess.Popen(command, cwd=folder, env=env, stdout=output, stderr=output, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}"
        wait(server, url, log)
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)  # its Lambda workers are in its process group
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(10)


def wait(server, url, log):
    """Return once the server answers."""
    until = time.monotonic() + 60
    while time.monotonic() < until and server.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/_ministack/health", timeout=5) as answer:  # noqa: S310
            json.load(answer)
            return
        time.sleep(0.05)
    msg = f"ministack did not start:\n{log.read_text(errors='replace')}"
    raise RuntimeError(msg)
