"""Makes wheels of pyworkflow's own distributions from the running installation: they are on no public index."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.metadata
import importlib.util
import io
from collections.abc import Iterable
from pathlib import Path

from pyworkflow.errors import ConfigError
from pyworkflow_aws.deploy.bundle.archive import pack

PACKAGES = {
    "pyworkflow": None,  # the one that only brings others
    "pyworkflow-aws": "pyworkflow_aws",
    "pyworkflow-celery": "pyworkflow_celery",
    "pyworkflow-core": "pyworkflow",
    "pyworkflow-sqlite": "pyworkflow_sqlite",
}
"""Our distributions, and the package that each of them installs."""

_TOOLS = {"pyworkflow": {"check", "cli", "testing"}, "pyworkflow_aws": {"deploy", "testing"}}
"""Parts of our packages that only people at a terminal and tests use."""

ALWAYS = frozenset({"pyworkflow-core", "pyworkflow-aws"})
"""Those that every function needs."""


def wheels(names: Iterable[str], folder: Path) -> list[Path]:
    """Write a wheel of each of our distributions *names* into *folder* and return their paths.

    An editable installation suffices: the files are copied from where they are imported. The tools for developers are
    left out.

    Raises:
        ConfigError: One of them is not installed.
    """
    return [_wheel(name, package, folder) for name in sorted(names) if (package := PACKAGES[name]) is not None]


def _wheel(name: str, package: str, folder: Path) -> Path:
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        msg = f"the project requires {name!r}, which is not installed here; install it, as it is taken from here"
        raise ConfigError(msg) from None
    stem = f"{name.replace('-', '_')}-{distribution.version}"
    info = f"{stem}.dist-info"
    files: dict[str, Path | bytes] = {
        f"{package}/{path.relative_to(at).as_posix()}": path
        for at in _places(package)
        for path in sorted(at.rglob("*"))
        if path.is_file() and path.suffix != ".pyc" and path.relative_to(at).parts[0] not in _TOOLS.get(package, ())
    }
    for file in ("METADATA", "entry_points.txt"):
        text = distribution.read_text(file)
        if text is not None:
            files[f"{info}/{file}"] = text.encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: pyworkflow\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/RECORD"] = _record(files, f"{info}/RECORD")
    wheel = folder / f"{stem}-py3-none-any.whl"
    wheel.write_bytes(pack(files))
    return wheel


def _places(package: str) -> list[Path]:
    spec = importlib.util.find_spec(package)
    found = [Path(place) for place in (spec.submodule_search_locations or ())] if spec is not None else []
    if not found:
        msg = f"the package {package!r} cannot be found as a folder, so it cannot be put into a function"
        raise ConfigError(msg)
    return found


def _record(files: dict[str, Path | bytes], itself: str) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for name, content in files.items():
        data = content if isinstance(content, bytes) else content.read_bytes()
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        writer.writerow([name, f"sha256={digest}", len(data)])
    writer.writerow([itself, "", ""])
    return text.getvalue().encode()
