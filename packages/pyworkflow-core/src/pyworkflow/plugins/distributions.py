"""What is installed: the entry points of plugins, their distributions, and those that get in our way."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

# importlib.metadata is imported inside the functions: `import pyworkflow` needs none of it.

GROUP = "pyworkflow"
"""The entry-point group of plugins."""

CORE = "pyworkflow-core"

# Who else is known to install a top-level package of our name.
_NAMESAKES = ("pyworkflow", "pyworkflow-engine")


@frozen
class Distribution:
    """An installed distribution; empty where a plugin belongs to none."""

    name: str = ""
    version: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.version}".strip()


def entry_points() -> dict[str, EntryPoint]:
    """Return the installed plugins by name; where two distributions share one, ``name@distribution``."""
    import importlib.metadata

    all_points = importlib.metadata.entry_points(group=GROUP)
    points = {(point.name, point.value, distribution(point).name): point for point in all_points}
    times = Counter(name for name, _, _ in points)
    return {
        name if times[name] == 1 else f"{name}@{dist or value}": point
        for (name, value, dist), point in sorted(points.items(), key=lambda item: item[0])
    }


def distribution(point: EntryPoint) -> Distribution:
    """Return what an entry point belongs to."""
    found = getattr(point, "dist", None)
    return Distribution() if found is None else Distribution(found.name, found.version)


def version(package: str) -> str | None:
    """Return the installed version of *package*, or None."""
    import importlib.metadata

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def advice(extra: str) -> str:
    """Return how to get the package behind one of our extras."""
    return (
        f"install pyworkflow-{extra}, e.g. pip install --find-links dist 'pyworkflow[{extra}]', "
        "after python3 dev.py nox -s dist in a clone"
    )


def conflicts() -> list[str]:
    """Return a sentence about each installed distribution that puts a foreign package ``pyworkflow`` where ours is.

    Looks at the metadata of two names only. For errors and the command line; nothing calls it at import.
    """
    import importlib.metadata

    return [
        f"the distribution {dist.name} {dist.version} is another project that installs a package 'pyworkflow' into the "
        f"same place as {CORE}: uninstall it (pip uninstall {dist.name}), then install {CORE} again, as files of one "
        "may have replaced files of the other"
        for name in _NAMESAKES
        for dist in importlib.metadata.distributions(name=name)
        if any(file.parts[:1] == ("pyworkflow",) and file.suffix == ".py" for file in dist.files or ())
    ]
