"""Makes the zip of a function: the user's files, what they require, and ourselves."""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from attrs import frozen

from pyworkflow.errors import ConfigError
from pyworkflow_aws.deploy.bundle.archive import digest, pack
from pyworkflow_aws.deploy.bundle.bytecode import precompile, syntax_error
from pyworkflow_aws.deploy.bundle.contents import Contents, LeftOut
from pyworkflow_aws.deploy.bundle.install import install
from pyworkflow_aws.deploy.bundle.platforms import Platform
from pyworkflow_aws.deploy.bundle.requirements import Requirements
from pyworkflow_aws.deploy.bundle.slimming import slim
from pyworkflow_aws.deploy.bundle.source import Source

UNPACKED_LIMIT = 250 << 20
"""Bytes that a function may have, unpacked."""

_DROPPED = (
    ".lock",
    "*.pth",
    "*.pyi",
    "boto3/examples/*",
    "*.dist-info/RECORD",
    "*.dist-info/INSTALLER",
    "*.dist-info/REQUESTED",
    "*.dist-info/direct_url.json",
    "*.dist-info/uv_*.json",
)
"""What installers leave behind and a function does not need; the rest of a dist-info names its plugins."""


@frozen
class Bundle:
    """A zip, and what is in it.

    Attributes:
        data: The zip.
        files: The user's files in it.
        left_out: The user's files that are not in it.
        distributions: What else is in it: name and version, with the bytes they take unpacked.
        services: The AWS services that botocore knows in it besides the usual ones.
        size: Bytes, unpacked.
        compiled: Whether byte code is in it.
        installer: What installed the requirements.
        requirements: Where the requirements come from.
    """

    data: bytes
    files: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    distributions: Mapping[str, int]
    services: frozenset[str]
    size: int
    compiled: bool
    installer: str
    requirements: str

    @property
    def digest(self) -> str:
        """What Lambda calls ``CodeSha256``."""
        return digest(self.data)


def build(
    source: Source,
    contents: Contents,
    requirements: Requirements,
    platform: Platform,
    *,
    services: tuple[str, ...] = (),
    installer: str | None = None,
    tell: Callable[[str], object] = lambda _: None,
) -> Bundle:
    """Make the bundle.

    Args:
        source: The user's module.
        contents: The user's files.
        requirements: What they need of others.
        platform: Where it is to run.
        services: AWS services to keep in botocore besides those that the code names.
        installer: ``uv`` or ``pip``; by default what there is.
        tell: Called with each stage as it begins.

    Raises:
        ConfigError: The module would not be in the bundle, something cannot be installed or does not run on *platform*,
            a file of the user's has the place of another one, or it is all too large.
    """
    _check_module(source, contents, platform)
    with tempfile.TemporaryDirectory(prefix="pyworkflow-") as temporary:
        stage = Path(temporary)
        tell(f"installing what {requirements.source} asks for, and pyworkflow")
        used = install(stage, requirements, platform, installer=installer)
        _clear(stage)
        users = [path for name, path in contents.files.items() if name.endswith(".py")]
        extra, unneeded = slim(stage, users, services)
        _add(contents, stage)
        tell("compiling" if (compiled := precompile(stage, platform.python)) else "not compiling, packing")
        found = _kept(stage, contents, unneeded)
        size = sum(path.stat().st_size for path in found.values())
        distributions = _sizes(stage, found)
        if size > UNPACKED_LIMIT:
            largest = ", ".join(f"{name} {taken >> 20} MB" for name, taken in Counter(distributions).most_common(3))
            msg = f"the function would have {size >> 20} MB, and Lambda takes 250 MB; the largest parts: {largest}"
            raise ConfigError(msg)
        data = pack(found)
    return Bundle(
        data, tuple(contents.files), contents.left_out, distributions, extra, size, compiled, used, requirements.source
    )


def _check_module(source: Source, contents: Contents, platform: Platform) -> None:
    stem = source.module.replace(".", "/")
    file = contents.files.get(f"{stem}.py", contents.files.get(f"{stem}/__init__.py"))
    if file is None:
        path, reason = next(
            ((item.path, item.reason) for item in contents.left_out if f"{stem}.py".startswith(item.path)),
            (source.module, "an exclusion"),
        )
        msg = f"the module {source.module!r} would stay behind: {path} matches {reason!r}; rename it, or --include it"
        raise ConfigError(msg)
    problem = syntax_error(file, platform.python)
    if problem is not None:
        msg = f"the module {source.module!r} is not valid Python {platform.python}: {problem}"
        raise ConfigError(msg)


def _clear(stage: Path) -> None:
    """Delete what must not be there before the user's files are added: commands, byte code, and links."""
    shutil.rmtree(stage / "bin", ignore_errors=True)
    for path in sorted(stage.rglob("*"), reverse=True):
        if path.is_symlink():
            path.unlink()
        elif path.name == "__pycache__":
            shutil.rmtree(path)


def _kept(stage: Path, contents: Contents, unneeded: tuple[str, ...]) -> dict[str, Path]:
    """Return the files of the zip: leaving files out is quicker than deleting them."""
    found = ((path.relative_to(stage).as_posix(), path) for path in stage.rglob("*") if path.is_file())
    return {
        name: path
        for name, path in found
        if name in contents.files
        or not (name.startswith(unneeded) or any(fnmatchcase(name, pattern) for pattern in _DROPPED))
    }


def _sizes(stage: Path, found: Mapping[str, Path]) -> dict[str, int]:
    """Return each distribution, name and version, with the bytes that its own files take."""
    sizes = {}
    for record in sorted(stage.glob("*.dist-info/RECORD")):
        name, _, version = record.parent.name.removesuffix(".dist-info").partition("-")
        with record.open(encoding="utf-8", newline="") as file:
            files = [found[row[0]] for row in csv.reader(file) if row and row[0] in found]
        sizes[f"{name} {version}"] = sum(path.stat().st_size for path in files)
    return sizes


def _add(contents: Contents, stage: Path) -> None:
    """Copy the user's files into *stage*."""
    taken = [name for name in contents.files if _taken(name, stage)]
    if taken:
        msg = (
            f"{', '.join(taken[:3])}: a file of your code would take the place of one of a package that it requires; "
            "rename yours, or leave it behind with --exclude"
        )
        raise ConfigError(msg)
    for name, path in contents.files.items():
        place = stage / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())


def _taken(name: str, stage: Path) -> bool:
    """Whether there is a file of this name, or a package that would hide it or be hidden by it."""
    top, _, below = name.partition("/")
    other = f"{top}.py" if below else top.removesuffix(".py")
    return (stage / name).exists() or (other != top and (stage / other).exists())
