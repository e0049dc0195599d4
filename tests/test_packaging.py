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
