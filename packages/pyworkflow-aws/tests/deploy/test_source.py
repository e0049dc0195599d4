import sys
from pathlib import Path

import pytest

from pyworkflow.errors import ConfigError
from pyworkflow_aws.deploy.bundle.source import Source, find_source

LOUD = "raise SystemExit('it was imported')\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    for name in ("flows.py", "shop/__init__.py", "shop/orders/__init__.py", "shop/orders/flows.py", "loose/flows.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(LOUD)
    monkeypatch.chdir(tmp_path)
    return tmp_path.resolve()


@pytest.mark.parametrize(
    "place, folder, module",
    [
        ("flows", ".", "flows"),
        ("flows.py", ".", "flows"),
        ("shop", ".", "shop"),
        ("shop.orders.flows", ".", "shop.orders.flows"),
        ("shop/orders/flows.py", ".", "shop.orders.flows"),
        ("shop/__init__.py", ".", "shop"),
        ("loose/flows.py", "loose", "flows"),
        ("loose.flows", ".", "loose.flows"),
    ],
)
def test_a_module_is_found_without_being_imported(project, place, folder, module):
    assert find_source(place) == Source((project / folder).resolve(), module)


@pytest.mark.parametrize(
    "place, said",
    [
        ("flowz", r"there is no module 'flowz' \(did you mean 'flows'\?\)"),
        ("flowz.py", r"there is no file 'flowz\.py' \(did you mean 'flows\.py'\?\)"),
        ("shop.order", "there is no module 'shop.order' in"),
        ("my-flows", "'my-flows' is no name that Python can import"),
    ],
)
def test_what_is_not_there_is_refused(project, place, said):
    with pytest.raises(ConfigError, match=said):
        find_source(place)


def test_what_is_installed_is_not_shipped_as_a_project(project):
    with pytest.raises(ConfigError, match=r"'pytest' is installed in .*site-packages"):
        find_source("pytest")


def test_a_home_is_not_shipped(project, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: project)
    with pytest.raises(ConfigError, match="holds more than its code"):
        find_source("flows")


def test_the_path_is_as_it_was_afterwards(project):
    before = list(sys.path)
    find_source("flows")
    assert sys.path == before
