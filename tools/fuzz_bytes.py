"""Feeds bytes to what reads bytes, and lets what they reach decide which come next; with atheris.

Usage: fuzz_bytes.py [--runs N] [TARGET ...]. Each target is in a process of its own, as that is how atheris ends. An
exception that the documentation does not name is a failure, and the bytes that led to it are shown.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from datetime import UTC, datetime
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["pyworkflow"]):
    from pyworkflow import wire, workflow
    from pyworkflow.authoring.primitives import when
    from pyworkflow.cli import main as command_line
    from pyworkflow.cli.view.output import Exit
    from pyworkflow.codec import Codec
    from pyworkflow.config.config_string import Spec
    from pyworkflow.config.durations import delta, seconds
    from pyworkflow.errors import ConfigError, StorageError, Unstorable
    from pyworkflow.events import CallStep, Completed, Requested, RunStarted
    from pyworkflow.inspection.export import from_json, to_json
    from pyworkflow.model import Run

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EVENTS = [RunStarted(NOW, "flow", [1], {}, "seed"), Requested(NOW, CallStep(1, "s", [], {})), Completed(NOW, 1, 2)]


CODEC = Codec()


@workflow(name="fuzz.order")
async def order(id: str, lines: list[dict[str, int]], *, at: datetime | None = None, **more: float) -> None: ...  # noqa: A002


def text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass" if len(data) % 2 else "replace")


def config(data: bytes) -> None:
    with suppress(ConfigError, UnicodeDecodeError):
        str(Spec.parse(text(data)))


def durations(data: bytes) -> None:
    with suppress(UnicodeDecodeError):
        for read in (seconds, delta, when):
            with suppress(ConfigError):
                read(text(data))


def events(data: bytes) -> None:
    with suppress(StorageError):
        wire.dumps(wire.loads(data))


def messages(data: bytes) -> None:
    with suppress(StorageError, Unstorable, TypeError):
        order.signature_for(CODEC).decode_call(wire.loads_plain(data), {})
    with suppress(StorageError, Unstorable, TypeError):
        order.signature_for(CODEC).decode_call(["o-1", []], wire.loads_plain(data))


def imports(data: bytes) -> None:
    with suppress(ConfigError):
        from_json(data)


def arguments(data: bytes) -> None:
    words = [word for word in data.decode(errors="replace").split("\0") if word not in {"worker", "run", "init", "dev"}]
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(out):
        code = command_line(["--storage", "memory://", *words])
    if code == Exit.INTERNAL or "Traceback" in out.getvalue():
        raise AssertionError(out.getvalue())


EXPORTED = to_json(Run("run-1", "flow", NOW, length=len(EVENTS)), EVENTS).encode()
TARGETS: dict[str, tuple[Callable[[bytes], None], Sequence[bytes]]] = {
    "config": (config, [b"sqlite:///a.db?synchronous=full", b"exponential?base=1s&cap=60s", b"redis://u:p%40@h:1/0"]),
    "durations": (durations, [b"1h 30m", b"P1DT2H", b"1.5 days", b"-3ms", b"1e9"]),
    "events": (events, [wire.dumps(EVENTS).encode()]),
    "messages": (messages, [b'["o-1",[{"a":1}]]', b'{"at":"2026-01-01T00:00:00+00:00","x":1.5}', b"[1,{}]"]),
    "imports": (imports, [EXPORTED]),
    "arguments": (arguments, [b"runs\0list\0--limit\x003", b"runs\0show\0x", b"hooks\0send\0a\0{}", b"plugins", b"-h"]),
}  # fmt: skip


def fuzz(name: str, runs: int, folder: str) -> None:
    """Run a target, in this process, which ends with it."""
    target, seeds = TARGETS[name]
    for number, seed in enumerate(seeds):
        Path(folder, f"seed-{number}").write_bytes(seed)
    os.chdir(folder)
    os.environ["PYWORKFLOW_STORAGE"] = "memory://"
    atheris.Setup([sys.argv[0], f"-runs={runs}", "-max_len=2000", "-verbosity=0", folder], target)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", choices=[[], *TARGETS])
    parser.add_argument("--runs", type=int, default=100_000, help="how many inputs of each")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        fuzz(options.targets[0], options.runs, options.inside)
    bad = []
    for name in options.targets or TARGETS:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, name, f"--runs={options.runs}", "--inside", folder]
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        print(f"{name}: {options.runs:,} inputs, {'ok' if done.returncode == 0 else 'FAILED'}", flush=True)
        if done.returncode:
            print(done.stdout[-3000:], done.stderr[-3000:])
            bad.append(name)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
