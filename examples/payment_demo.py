"""The main job, to watch: an order is killed in the middle with SIGKILL, and the same command carries it on.

python3 dev.py demo            # a temporary database
python3 dev.py demo shop.db    # a database of yours, to look at afterwards
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

SHOP = Path(__file__).with_name("shop.py")


def main(database: str) -> int:
    """Run the demonstration; return 0 if no completed step ran again."""
    command = [sys.executable, "-m", "pyworkflow", "--storage", f"sqlite:///{database}"]
    run = [*command, "run", f"{SHOP}:checkout", "o-1", "--run-id", "order-o-1"]

    title("1. An order is started, and its process is killed as soon as the packing begins")
    first = watch(run, kill_at="pack(")
    title("2. What the database knows: the card is charged, the packing is under way")
    subprocess.run([*command, "runs", "show", "order-o-1"], check=True)
    title("3. The same command once more: the run goes on where it was, nothing completed runs again")
    second = watch(run)
    title("4. The whole run, over both processes")
    subprocess.run([*command, "runs", "show", "order-o-1"], check=True)

    done = Counter(line.split("] ")[1].split("(")[0] for line in [*first, *second] if "] " in line)
    print(f"\nCalls over both processes: {', '.join(f'{name} x {count}' for name, count in done.items())}")
    print(
        "charge_card was called twice because its first attempt fails by design; the crash repeated what was under "
        "way, the packing, and nothing that was completed."
    )
    return 0 if done["reserve_stock"] == 1 and done["charge_card"] == 2 and done["send_receipt"] == 1 else 1


def watch(command: list[str], *, kill_at: str | None = None) -> list[str]:
    """Show what a process prints; kill it when it prints *kill_at*. Return the lines."""
    print(f"$ pyworkflow {' '.join(command[3:])}")
    lines = []
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}, start_new_session=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
        if kill_at is not None and kill_at in line:
            process.send_signal(signal.SIGKILL)
            print(f"    kill -9 {process.pid}")
            break
    process.wait()
    process.stdout.close()
    return lines


def title(text: str) -> None:
    """Show what comes next."""
    print(f"\n== {text}\n", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(main(str(Path(sys.argv[1]).resolve())))
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(main(f"{folder}/shop.db"))
