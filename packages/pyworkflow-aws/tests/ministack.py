"""ministack, an emulator of AWS: in an environment of its own, started on a free loopback port, ended by its pid."""

import contextlib
import fcntl
import hashlib
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


def installed(pins=PINS):
    """Return the Python of an environment that holds an emulator; made once for each set of pins and each Python."""
    digest = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()[:12]
    venv = CACHE / f"{pins.stem.removesuffix('-constraints')}-{digest}"
    stamp, python = venv / "complete", venv / "bin" / "python"
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "ministack.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another test run may be at it
        if not stamp.exists():
            shutil.rmtree(venv, ignore_errors=True)
            quietly(sys.executable, "-m", "venv", venv)
            quietly(python, "-m", "pip", "install", "--disable-pip-version-check", "--no-deps", "-r", pins)
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
    port = free_port()
    env = {
        "BIND_HOST": "127.0.0.1",  # by default it listens to the whole network
        "GATEWAY_PORT": str(port),
        "MINISTACK_HOST": "127.0.0.1",
        "AUTH": "true",
        "LAMBDA_EXECUTOR": "local",
        "TMPDIR": str(folder),
        "STATE_DIR": str(folder / "state"),
    }
    with serving(
        [installed(), "-m", "ministack"], f"http://127.0.0.1:{port}", "/_ministack/health", env, folder
    ) as url:
        yield url


def owner(url, account, folder):
    """Return the environment of the owner of the account with this number on an emulator, and of nothing else."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": account,
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_CONFIG_FILE": str(folder / "no-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "no-credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def serving(command, url, health, env, folder):
    """Run an emulator while the context lasts, and yield its URL once it answers there at the path *health*."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTEST", "COV"))}
    env, log = {**inherited, **env}, folder / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(command, cwd=folder, env=env, stdout=output, stderr=output, start_new_session=True)
    try:
        wait(server, url + health, log)
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
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
            answer.read()
            return
        time.sleep(0.05)
    msg = f"the emulator did not start:\n{log.read_text(errors='replace')}"
    raise RuntimeError(msg)
