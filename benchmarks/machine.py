"""Facts about the machine that figures depend on."""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
from pathlib import Path


def facts(folder: Path) -> dict[str, str]:
    """Return what there is to know; *folder* is where the databases are."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.0f} GB",
        "system": f"{platform.system()} {platform.release()}",
        "file system": _file_system(folder),
        "python": sys.version.split()[0],
        "sqlite": sqlite3.sqlite_version,
    }


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _file_system(folder: Path) -> str:
    best, kind = "", "unknown"
    try:
        mounts = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return kind
    for line in mounts:
        _, point, name, *_ = line.split()
        if folder.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, name
    return kind
