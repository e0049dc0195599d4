import pytest

from pyworkflow_aws.deploy.bundle.platforms import Platform, misfits

ARM = Platform("3.13", "arm64")


@pytest.mark.parametrize(
    "tag",
    [
        "py3-none-any",
        "py2.py3-none-any",
        "cp313-cp313-manylinux_2_17_aarch64",
        "cp313-cp313-manylinux2014_aarch64",
        "cp313-cp313-manylinux_2_34_aarch64",
        "cp38-abi3-manylinux_2_28_aarch64",
        "py3-none-manylinux_2_17_aarch64",
        "cp313-none-any",
    ],
)
def test_a_wheel_that_runs(tmp_path, tag):
    wheel(tmp_path, tag)
    assert list(misfits(tmp_path, ARM)) == []


@pytest.mark.parametrize(
    "tag",
    [
        "cp313-cp313-manylinux_2_17_x86_64",
        "cp313-cp313-manylinux_2_35_aarch64",
        "cp313-cp313-linux_aarch64",
        "cp313-cp313-musllinux_1_2_aarch64",
        "cp313-cp313-macosx_11_0_arm64",
        "cp313-cp313-win_arm64",
        "cp312-cp312-manylinux_2_17_aarch64",
        "cp313-cp313t-manylinux_2_17_aarch64",
        "cp314-abi3-manylinux_2_17_aarch64",
        "py2-none-any",
        "pp311-pypy311_pp73-manylinux_2_17_aarch64",
    ],
)
def test_a_wheel_that_does_not_run_is_named_with_its_tag(tmp_path, tag):
    wheel(tmp_path, tag)
    assert list(misfits(tmp_path, ARM)) == [f"thing-1.0 ({tag})"]


def test_one_tag_of_many_is_enough(tmp_path):
    wheel(tmp_path, "cp313-cp313-macosx_11_0_arm64", "cp313-cp313-manylinux_2_17_aarch64.manylinux2014_aarch64")
    assert list(misfits(tmp_path, ARM)) == []


def test_python_3_11_runs_on_an_older_library(tmp_path):
    wheel(tmp_path, "cp311-cp311-manylinux_2_28_x86_64")
    assert list(misfits(tmp_path, Platform("3.11", "x86_64"))) == ["thing-1.0 (cp311-cp311-manylinux_2_28_x86_64)"]


def wheel(folder, *tags):
    info = folder / "thing-1.0.dist-info"
    info.mkdir()
    (info / "WHEEL").write_text("Wheel-Version: 1.0\n" + "".join(f"Tag: {tag}\n" for tag in tags))
