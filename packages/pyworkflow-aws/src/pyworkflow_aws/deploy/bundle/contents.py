"""Gathers the user's files: what is shipped, and what is left out and why."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from attrs import define, field, frozen

from pyworkflow.errors import ConfigError
from pyworkflow_aws.deploy.bundle.exclusions import Exclusions

_MOST_FILES = 20_000
_SCANNED = 1 << 20  # bytes from the beginning of a file: keys are in small files

_KEYS = re.compile(
    rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----[\s\\nr]+[A-Za-z0-9+/=:,-]{8}"
    rb"|PuTTY-User-Key-File-\d"
    rb"|aws_secret_access_key\s*[=:]\s*[\"']?[A-Za-z0-9/+]{40}\b",
    re.IGNORECASE,
)


@frozen
class LeftOut:
    """A path that is left out; *reason* is a pattern or a few words."""

    path: str
    reason: str


@frozen
class Contents:
    """The user's files by their place in the zip, and the paths that were left out."""

    files: dict[str, Path]
    left_out: tuple[LeftOut, ...]


def gather(root: Path, exclusions: Exclusions) -> Contents:
    """Return what of *root* is shipped.

    Links are followed only to files that are in *root* and would be shipped themselves.

    Raises:
        ConfigError: A file holds a private key, or there are far too many files.
    """
    walk = _Walk(root.resolve(), exclusions)
    walk.folder(walk.root)
    keys = [name for name, path in walk.files.items() if not exclusions.named(name) and holds_key(path)]
    if keys:
        msg = (
            f"there is a private key in {' and in '.join(map(repr, keys))}: leave it behind with --exclude PATH, or, "
            "if it has to be in the function, say so with --include PATH"
        )
        raise ConfigError(msg)
    return Contents(dict(sorted(walk.files.items())), tuple(sorted(walk.left_out, key=lambda item: item.path)))


def holds_key(path: Path) -> bool:
    """Whether a file has a private key in it."""
    with path.open("rb") as file:
        return _KEYS.search(file.read(_SCANNED)) is not None


@define
class _Walk:
    root: Path
    exclusions: Exclusions
    files: dict[str, Path] = field(factory=dict)
    left_out: list[LeftOut] = field(factory=list)

    def folder(self, folder: Path) -> None:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                self._entry(Path(entry.path))

    def _entry(self, path: Path) -> None:
        name = path.relative_to(self.root).as_posix()
        reason = self.exclusions.reason(name)
        if path.is_dir() and not path.is_symlink():
            if (path / "pyvenv.cfg").exists() or (path / "conda-meta").is_dir():
                self.left_out.append(LeftOut(f"{name}/", "a virtual environment"))
            elif reason is None:
                self.folder(path)
            else:
                self.left_out.append(LeftOut(f"{name}/", reason))
                if self.exclusions.may_include_below(name):
                    self._exceptions_below(path)
            return
        problem = reason or self._unfit(path, name)
        if problem is None:
            self.files[name] = path
            if len(self.files) > _MOST_FILES:
                msg = f"{str(self.root)!r} has more than {_MOST_FILES} files: move the code to a folder of its own"
                raise ConfigError(msg)
        else:
            self.left_out.append(LeftOut(name, problem))

    def _exceptions_below(self, folder: Path) -> None:
        before = len(self.left_out)
        self.folder(folder)
        del self.left_out[before:]  # the folder as a whole is listed already

    def _unfit(self, path: Path, name: str) -> str | None:
        """Return why a file cannot be shipped."""
        if not name.isprintable() or "\\" in name:
            return "a name that does not unpack everywhere"
        if path.is_symlink():
            return self._bad_link(path)
        return None if stat.S_ISREG(path.lstat().st_mode) else "not a regular file"

    def _bad_link(self, path: Path) -> str | None:
        try:
            real = path.resolve(strict=True)
        except (OSError, RuntimeError):  # RuntimeError: a loop, before Python 3.13
            return "a link that leads nowhere"
        if not real.is_relative_to(self.root):
            return "a link that leads out of the folder"
        if not real.is_file():
            return "a link to something that is not a file"
        steps = list(self._steps(real))
        hidden = next((reason for step in steps if (reason := self.exclusions.reason(step)) is not None), None)
        if hidden is not None or any((self.root / step / "pyvenv.cfg").exists() for step in steps):
            return f"a link to what stays behind: {hidden or 'a virtual environment'}"
        return None

    def _steps(self, real: Path) -> Iterator[str]:
        name = real.relative_to(self.root)
        yield name.as_posix()
        yield from (parent.as_posix() for parent in name.parents if parent.name)
