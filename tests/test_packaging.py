import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECTS = {
    (project := tomllib.loads(path.read_text())["project"])["name"]: (path.parent, project)
    for path in [ROOT / "pyproject.toml", *ROOT.glob("packages/*/pyproject.toml")]
}
PARTS = sorted(set(PROJECTS) - {"pyworkflow"})
VERSION = PROJECTS["pyworkflow"][1]["version"]


def requirements(name):
    _, project = PROJECTS[name]
    extras = project.get("optional-dependencies", {}).values()
    return [*project["dependencies"], *(requirement for extra in extras for requirement in extra)]


def test_the_five_distributions_are_these():
    assert sorted(PROJECTS) == ["pyworkflow", *(f"pyworkflow-{part}" for part in ("aws", "celery", "core", "sqlite"))]


@pytest.mark.parametrize("name", sorted(PROJECTS))
def test_versions_go_in_lockstep(name):
    assert PROJECTS[name][1]["version"] == VERSION
    ours = [requirement for requirement in requirements(name) if requirement.startswith("pyworkflow")]
    assert all(requirement.endswith(f"=={VERSION}") for requirement in ours)


def test_the_core_is_slim():
    names = [requirement.split(">=")[0] for requirement in PROJECTS["pyworkflow-core"][1]["dependencies"]]
    assert names == ["attrs", "cattrs", "importlib-metadata", "pluggy"]


@pytest.mark.parametrize("name", PARTS)
def test_a_package_ships_its_types_and_its_license(name):
    folder, _ = PROJECTS[name]
    assert len(list(folder.glob("src/*/py.typed"))) == 1
    assert (folder / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_the_constraints_name_versions_only():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if line.count("==") != 1 or "/" in line or line.startswith("pyworkflow")] == []


def install_lines():
    """Each ``pip install`` of one of our distributions, in text or code: its file and the match."""
    name = r"(?:\./packages/)?pyworkflow[^\s\"']*"
    asked = re.compile(rf"pip install (?P<options>(?:--?[\w-]+ (?:dist )?)*)(?P<quote>[\"']?)(?P<name>{name})")
    folders = [*ROOT.glob("packages/*/src"), ROOT / "examples", ROOT / "docs"]
    files = [path for folder in folders for suffix in ("md", "py", "txt") for path in folder.rglob(f"*.{suffix}")]
    for path in [ROOT / "README.md", *files]:
        text = re.sub(r"\"\n\s+f?\"", "", path.read_text())  # a string in two parts is one text
        yield from ((path.name, found) for found in asked.finditer(text))


def test_no_line_installs_the_package_of_that_name_on_the_index():
    lines = list(install_lines())
    assert len(lines) > 8
    by_name = [
        (path, found[0]) for path, found in lines if not found["name"].startswith("./") and "acme" not in found["name"]
    ]
    assert [line for line in by_name if "--find-links dist" not in line[1]] == []


def test_install_lines_are_quoted_where_a_shell_would_expand_them():
    assert [(path, found[0]) for path, found in install_lines() if "[" in found["name"] and not found["quote"]] == []
