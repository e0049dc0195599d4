"""Reads the requirements of the user's project: a requirements file, or ``[project]`` of its ``pyproject.toml``."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

from attrs import frozen

from pyworkflow.errors import ConfigError

_NAME = re.compile(r"\s*(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*(?P<rest>.*)", re.DOTALL)
_PATH = re.compile(r"\.{0,2}/|\.{1,2}(?:\[|$)|\.\\|file:")


@frozen
class Requirements:
    """What to install besides ourselves.

    Attributes:
        lines: As in a requirements file, without what is ours and without the project itself.
        ours: Which distributions of ours are asked for.
        source: Where the lines come from, for people.
    """

    lines: tuple[str, ...] = ()
    ours: frozenset[str] = frozenset()
    source: str = "nothing"

    @property
    def pinned(self) -> frozenset[str]:
        """The names that the lines pin themselves."""
        names = (_NAME.match(line) for line in self.lines if not line.startswith("-"))
        return frozenset(normal(found["name"]) for found in names if found and re.match(r"==|@", found["rest"]))

    @property
    def hashed(self) -> bool:
        """Whether the lines have digests of files."""
        return any("--hash" in line for line in self.lines)


def read(root: Path, ours: Iterable[str], file: Path | None = None) -> Requirements:
    """Return the requirements in *file*, else those of the project that the folder *root* belongs to.

    Args:
        root: The folder with the user's code. The project is the nearest folder, from there upwards, that has a
            ``requirements.txt`` or a ``pyproject.toml``; the former counts first.
        ours: The distributions that are not looked up on an index.
        file: A requirements file or a ``pyproject.toml``.

    Raises:
        ConfigError: The file is not there, or cannot be parsed.
    """
    if file is None:
        names = ("requirements.txt", "pyproject.toml")
        file = next((path for at in (root, *root.parents) for name in names if (path := at / name).is_file()), None)
    elif not file.is_file():
        msg = f"there is no file {str(file)!r} with requirements"
        raise ConfigError(msg)
    if file is None:
        return Requirements()
    lines = list(_project(file)) if file.suffix == ".toml" else list(_lines(file.resolve(), root))
    own_names = {normal(name) for name in ours}
    kept, asked = [], set()
    for line in lines:
        found = None if line.startswith("-") or _PATH.match(line) else _NAME.match(line)
        if found and normal(found["name"]) in own_names:
            asked.add(normal(found["name"]))
        else:
            kept.append(line)
    return Requirements(tuple(kept), frozenset(asked), str(file))


def normal(name: str) -> str:
    """Return the one way to write the name of a distribution."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _project(file: Path) -> Iterator[str]:
    try:
        project = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{file} is not valid TOML: {error}"
        raise ConfigError(msg) from None
    if "dependencies" in project.get("dynamic", ()):
        msg = f"the dependencies in {file} are dynamic: write them to a file and give it with --requirements"
        raise ConfigError(msg)
    yield from project.get("dependencies", ())


def _lines(file: Path, root: Path, above: tuple[Path, ...] = ()) -> Iterator[str]:
    """Yield the requirements and options of *file*, with other files' put in place and paths made absolute."""
    if file in above:
        msg = f"{file} includes itself"
        raise ConfigError(msg)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{file} cannot be read: {error}"
        raise ConfigError(msg) from None
    for raw in re.sub(r"\\\r?\n", " ", text).splitlines():
        line = re.sub(r"(^|\s)#.*", "", raw).strip()
        if not line:
            continue
        option, value = _option(line)
        match option:
            case "-r" | "--requirement":
                yield from _lines((file.parent / value).resolve(), root, (*above, file))
            case "-c" | "--constraint" | "-f" | "--find-links" if not re.match(r"[a-z+]+://", value):
                yield f"{option} {(file.parent / value).resolve()}"
            case "-e" | "--editable":
                yield from _local(value, file, root)
            case "" if _PATH.match(line):
                yield from _local(line, file, root)
            case _:
                yield line


def _option(line: str) -> tuple[str, str]:
    found = re.match(r"(-[a-z]|--[a-z-]+)(?:\s*=\s*|\s+|(?<=-[a-z]))(.+)", line)
    return (found[1], found[2].strip()) if found else ("", line)


def _local(place: str, file: Path, root: Path) -> Iterator[str]:
    """Yield a requirement on a folder or wheel of the user's; of the project itself what it needs."""
    if re.match(r"[a-z+]+://", place) and not place.startswith("file:"):
        yield place
        return
    path = (file.parent / re.sub(r"^file:(//)?", "", place).partition("[")[0]).resolve()
    if not root.is_relative_to(path):
        yield str(path)
    elif (path / "pyproject.toml").is_file():
        yield from _project(path / "pyproject.toml")


def installed_versions(leaving_out: Iterable[str]) -> list[str]:
    """Return a pin for each distribution that is installed here, so that what was tested is what is deployed."""
    pins: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name = normal(distribution.metadata["Name"] or "")
        # What came from a folder or a URL, or was built for one machine, is on no index in this version.
        if name and "+" not in distribution.version and distribution.read_text("direct_url.json") is None:
            pins.setdefault(name, distribution.version)
    return [f"{name}=={version}" for name, version in sorted(pins.items()) if name not in set(leaving_out)]
