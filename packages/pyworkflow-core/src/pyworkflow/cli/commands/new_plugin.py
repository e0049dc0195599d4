"""``pyworkflow plugins new``: begins a plugin that works, for its author to make something of."""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

import click
from attrs import frozen

import pyworkflow
from pyworkflow.errors import ConfigError

_TAKEN = {"pyworkflow", *keyword.kwlist, *sys.stdlib_module_names}
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@frozen
class Kind:
    """A kind of backend: what people call it, how its classes end, and how it is set."""

    noun: str
    suffix: str
    setting: str


KINDS = {
    "storage": Kind("storage", "Storage", 'storage="{}://place"'),
    "runtime": Kind("runtime", "Runtime", 'default_runtime="{}"'),
    "retry-policy": Kind("retry policy", "Policy", 'default_retry="{}"'),
}


@click.command(short_help="Begin a plugin whose tests pass.")
@click.argument("name")
@click.option("--kind", type=click.Choice(list(KINDS)), default="storage", show_default=True, help="What it offers.")
@click.option(
    "--into",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    metavar="FOLDER",
    help="Where to make the project; by default here.",
)
def new(name: str, kind: str, into: Path) -> None:
    """Begin a plugin: a project that can be installed and whose tests, those of the conformance kit, pass.

    NAME is the name of the distribution, such as pyworkflow-acme; the backend is called acme then.
    """
    if not _NAME.fullmatch(name):
        msg = f"{name!r} is no name for a distribution: it is small letters and digits, joined by -: pyworkflow-acme"
        raise ConfigError(msg)
    values = _values(name, kind)
    if values["module"] in _TAKEN or not values["Class"].isidentifier():
        msg = f"{name!r} cannot be the name of a plugin, as its module and its class could not be called after it"
        raise ConfigError(msg)
    folder = into / name
    if folder.exists():
        msg = f"{str(folder)!r} is there already; choose another name, or remove it"
        raise ConfigError(msg)
    for path, text in _render(kind, values).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
        click.echo(folder / path)
    click.echo(f'next: pip install --editable "{folder}[test]" && pytest {folder}')


def _values(name: str, kind: str) -> dict[str, str]:
    """Return what the templates leave open."""
    short = name.removeprefix("pyworkflow-") or name
    return {
        "distribution": name,
        "module": name.replace("-", "_"),
        "name": short,
        "Class": "".join(part.capitalize() for part in short.split("-")) + KINDS[kind].suffix,
        "noun": KINDS[kind].noun,
        "setting": KINDS[kind].setting.format(short),
        "version": pyworkflow.__version__,
    }


def _render(kind: str, values: Mapping[str, str]) -> dict[str, str]:
    """Return the files of a new project, by their paths in it."""
    found: dict[str, str] = {}
    for part in ("common", kind):
        for path, text in _walk(files("pyworkflow.cli") / "templates" / part):
            found[path.replace("module", values["module"]).removesuffix(".txt")] = Template(text).substitute(values)
    return dict(sorted(found.items()))


def _walk(folder: Traversable, above: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for entry in folder.iterdir():
        path = above + entry.name
        found += _walk(entry, f"{path}/") if entry.is_dir() else [(path, entry.read_text(encoding="utf-8"))]
    return found
