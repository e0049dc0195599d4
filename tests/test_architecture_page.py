"""The map in docs/architecture.md: each file and each name in it is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "packages" / "pyworkflow-core" / "src" / "pyworkflow"
PAGE = (ROOT / "docs" / "architecture.md").read_text()
REFERENCES = sorted(set(re.findall(r"`([\w./-]+\.py)(?::([\w.]+))?`", PAGE)))
FOLDERS = sorted(set(re.findall(r"`([a-z_/]+)/`", PAGE)))


def names(file: Path) -> set[str]:
    """Return the qualified names of what a file defines."""
    found: set[str] = set()

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(prefix + node.name)
                if isinstance(node, ast.ClassDef):
                    visit(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found.update(prefix + target.id for target in targets if isinstance(target, ast.Name))

    visit(ast.parse(file.read_text()).body, "")
    return found


def place(name: str) -> Path:
    """Return the file or folder that the page means: of the core, unless it says which package."""
    return ROOT / name if name.startswith(("packages/", "tests/")) else CORE / name


@pytest.mark.parametrize("file, name", REFERENCES, ids=":".join)
def test_a_name_on_the_page_is_there(file, name):
    assert place(file).is_file()
    assert not name or name in names(place(file))


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_on_the_page_is_there(folder):
    assert place(folder).is_dir()


def test_every_layer_is_on_the_page():
    layers = {path.parent.name for path in CORE.glob("*/__init__.py")}
    assert layers == set(FOLDERS)
