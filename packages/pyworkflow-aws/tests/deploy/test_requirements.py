import importlib.metadata

import pytest

from pyworkflow.errors import ConfigError
from pyworkflow_aws.deploy.bundle.requirements import installed_versions, read

OURS = ("pyworkflow", "pyworkflow-core", "pyworkflow-aws", "pyworkflow-sqlite")


def lines(folder, text, name="requirements.txt"):
    (folder / name).write_text(text)
    return list(read(folder, OURS).lines)


def test_a_project_without_requirements_has_none(tmp_path):
    found = read(tmp_path, OURS, None)
    assert (found.lines, found.ours) == ((), frozenset())


def test_comments_and_continued_lines_are_understood(tmp_path):
    assert lines(tmp_path, "# top\nhttpx==0.28.1 \\\n  ; python_version >= '3.11'  # why\n\n") == [
        "httpx==0.28.1    ; python_version >= '3.11'"
    ]


@pytest.mark.parametrize("line", ["pyworkflow[aws]==0.1.0", "PyWorkflow_Core", "pyworkflow.aws >= 0.1", "pyworkflow"])
def test_our_own_names_never_reach_an_installer(tmp_path, line):
    assert lines(tmp_path, f"{line}\nhttpx\n") == ["httpx"]


def test_our_own_names_in_any_file_are_taken_from_this_installation(tmp_path):
    (tmp_path / "base.txt").write_text("pyworkflow-sqlite==0.1.0\n")
    (tmp_path / "requirements.txt").write_text("-r base.txt\npyworkflow-acme\n")
    found = read(tmp_path, OURS)
    assert (found.lines, found.ours) == (("pyworkflow-acme",), frozenset({"pyworkflow-sqlite"}))


def test_other_files_are_found_from_the_one_that_names_them(tmp_path):
    folder = tmp_path / "requirements"
    folder.mkdir()
    (folder / "base.txt").write_text("-c pins.txt\nattrs\n")
    assert lines(tmp_path, "-r requirements/base.txt\n") == [f"-c {folder / 'pins.txt'}", "attrs"]


def test_a_file_that_includes_itself_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="includes itself"):
        lines(tmp_path, "-r requirements.txt\n")


def test_local_packages_are_installed_by_their_path(tmp_path):
    assert lines(tmp_path, "-e ./libs/money\n./wheels/x-1.0-py3-none-any.whl\n") == [
        str(tmp_path / "libs" / "money"),
        str(tmp_path / "wheels" / "x-1.0-py3-none-any.whl"),
    ]


def test_the_project_itself_is_not_installed_as_its_files_are_shipped(tmp_path):
    assert lines(tmp_path, "-e .\n.[extra]\nhttpx\n") == ["httpx"]


def test_what_the_project_itself_requires_counts(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["httpx"]\n')
    assert lines(tmp_path, "-e .\n") == ["httpx"]


def test_without_a_requirements_file_pyproject_counts(tmp_path):
    assert lines(tmp_path, '[project]\ndependencies = ["httpx>=0.28", "pyworkflow[aws]"]\n', "pyproject.toml") == [
        "httpx>=0.28"
    ]


def test_the_project_is_the_nearest_folder_upwards(tmp_path):
    (tmp_path / "requirements.txt").write_text("httpx\n")
    source = tmp_path / "src" / "deep"
    source.mkdir(parents=True)
    assert read(source, OURS).lines == ("httpx",)


def test_dynamic_dependencies_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"are dynamic: .* --requirements"):
        lines(tmp_path, '[project]\ndynamic = ["dependencies"]\n', "pyproject.toml")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no file .*nope\.txt"):
        read(tmp_path, OURS, tmp_path / "nope.txt")


def test_what_is_not_pinned_gets_the_version_that_was_tested_here(tmp_path):
    (tmp_path / "requirements.txt").write_text("attrs==25.1.0\ncattrs>=24\n")
    pins = installed_versions(read(tmp_path, OURS).pinned)
    assert f"cattrs=={importlib.metadata.version('cattrs')}" in pins
    assert not any(pin.startswith("attrs==") for pin in pins)


def test_no_pin_is_ours():
    assert not any(pin.startswith("pyworkflow") for pin in installed_versions(()))
