import json
import subprocess
import sys

import pytest

from pyworkflow.cli import main

BAD = """
from datetime import datetime
from pathlib import Path

from pyworkflow import workflow

Path("imported").write_text("this module was imported")

@workflow
async def order(x):
    return datetime.now(), id(x)
"""
GOOD = "import time\n\nfrom pyworkflow import step, workflow\n\n@step\ndef f():\n    return time.time()\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "bad.py").write_text(BAD)
    (tmp_path / "good.py").write_text(GOOD)
    package = tmp_path / "shop" / "flows"
    package.mkdir(parents=True)
    (tmp_path / "shop" / "__init__.py").write_text("raise SystemExit('imported')\n")
    (package / "__init__.py").write_text("raise SystemExit('imported')\n")
    (package / "orders.py").write_text(BAD)
    for hidden in (".git", "venv", "__pycache__", "node_modules"):
        (tmp_path / hidden).mkdir()
        (tmp_path / hidden / "bad.py").write_text(BAD)
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_findings_are_printed_with_file_line_and_column_and_exit_with_1(project, capsys):
    assert main(["check", "bad.py"]) == 1
    out, err = capsys.readouterr()
    first, second = out.splitlines()
    assert first.startswith("bad.py:11:12: PW101 datetime.now() reads the clock")
    assert first.endswith("use pyworkflow.now()")
    assert second.startswith("bad.py:11:28: PW106 id() ")
    assert err == "2 findings in 1 workflow of 1 file\n"


def test_a_clean_file_exits_with_0(project, capsys):
    assert main(["check", "good.py"]) == 0
    assert capsys.readouterr() == ("", "nothing found in 0 workflows of 1 file\n")


def test_json_has_every_field(project, capsys):
    assert main(["check", "bad.py", "good.py", "--json", "--ignore", "PW106"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "findings": [
            {
                "path": "bad.py",
                "line": 11,
                "column": 12,
                "rule": "PW101",
                "name": "clock",
                "message": "datetime.now() reads the clock, which shows another time on replay; use pyworkflow.now()",
                "workflow": "order",
            }
        ],
        "files": 2,
        "workflows": 1,
    }
    assert err == ""


def test_rules_are_chosen_with_commas_or_by_repeating(project, capsys):
    assert main(["check", "bad.py", "--ignore", "PW106, PW101"]) == 0
    assert main(["check", "bad.py", "--ignore", "PW106", "--ignore", "PW1"]) == 0
    assert main(["check", "bad.py", "--select", "PW2,PW3"]) == 0
    assert main(["check", "bad.py", "--select", "PW106"]) == 1
    assert capsys.readouterr().out.count("\n") == 1


def test_a_folder_is_searched_without_what_is_hidden_or_installed(project, capsys):
    assert main(["check", "."]) == 1
    out, err = capsys.readouterr()
    assert {line.split(":")[0] for line in out.splitlines()} == {"bad.py", "shop/flows/orders.py"}
    assert err == "4 findings in 2 workflows of 5 files\n"


def test_a_file_given_twice_is_checked_once(project, capsys):
    assert main(["check", "bad.py", "./bad.py", "bad"]) == 1
    assert capsys.readouterr().err == "2 findings in 1 workflow of 1 file\n"


@pytest.mark.parametrize("name", ["shop", "shop.flows", "shop.flows.orders", "shop/flows/orders.py"])
def test_a_module_is_found_by_its_name_and_nothing_of_it_is_imported(project, capsys, name):
    assert main(["check", name]) == 1
    assert "shop/flows/orders.py:11:12: PW101" in capsys.readouterr().out
    assert not (project / "imported").exists()
    assert not {"shop", "shop.flows", "bad"} & set(sys.modules)


def test_an_installed_module_is_found_by_its_name(project, capsys):
    assert main(["check", "pyworkflow.testing"]) == 0
    assert main(["check", "json.decoder"]) == 0
    assert "of 1 file\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["missing.py"], "there is no file or folder 'missing.py'"),
        (["goode.py"], "did you mean 'good.py'?"),
        (["sho"], "there is no module 'sho' (did you mean 'shop'?)"),
        (["shop.missing"], "there is no module 'shop.missing', in 'shop'"),
        (["bad.py:order"], "give 'bad.py'"),
        (["empty"], "there are no Python files in 'empty'"),
        (["math"], "module 'math' has no Python source"),
        (["bad.py", "--select", "PW999"], "there is no rule 'PW999'"),
        (["bad.py", "--ignore", "X"], "there is no rule 'X'"),
        ([], "Missing argument"),
    ],
)
def test_wrong_usage_is_said_and_exits_with_2(project, capsys, arguments, said):
    assert main(["check", *arguments]) == 2
    out, err = capsys.readouterr()
    assert said in err
    assert out == ""


def test_importing_the_package_does_not_import_the_check():
    code = (
        "import sys, pyworkflow, pyworkflow.app, pyworkflow.cli.root; "
        "sys.exit(any(name.startswith('pyworkflow.check') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
