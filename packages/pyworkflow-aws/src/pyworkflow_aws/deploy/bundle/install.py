"""Installs requirements into a folder for another platform, with uv if it is there, else with pip."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from pyworkflow.errors import ConfigError
from pyworkflow_aws.deploy.bundle.own_wheels import ALWAYS, wheels
from pyworkflow_aws.deploy.bundle.platforms import Platform, misfits
from pyworkflow_aws.deploy.bundle.pythons import find_uv
from pyworkflow_aws.deploy.bundle.requirements import Requirements, installed_versions

Installer = Callable[[Path, Platform, Path, Path, str | None], list[str]]
"""Makes the command that installs a requirements file under constraints into a folder."""


def install(folder: Path, requirements: Requirements, platform: Platform, *, installer: str | None = None) -> str:
    """Install *requirements* and our own packages into *folder*; return the installer's name.

    What the requirements do not pin gets the version that is installed here.

    Args:
        folder: Where to; empty.
        requirements: What.
        platform: For what.
        installer: ``uv`` or ``pip``; by default the first of these that is installed.

    Raises:
        ConfigError: There is no installer, it failed, or something does not run on *platform*.
    """
    name = installer or ("uv" if find_uv() is not None else "pip")
    if name == "pip" and requirements.hashed:
        msg = f"{requirements.source} has hashes, which pip demands of everything or nothing: install uv for them"
        raise ConfigError(msg)
    with tempfile.TemporaryDirectory(prefix="pyworkflow-") as temporary:
        place = Path(temporary)
        own = wheels(ALWAYS | requirements.ours, place)
        wanted, constraints = place / "requirements.txt", place / "constraints.txt"
        # As files by path: on a public index our names may belong to others.
        own_lines = [f"{wheel.name.split('-')[0].replace('_', '-')} @ {wheel.as_uri()}" for wheel in own]
        wanted.write_text("\n".join([*requirements.lines, *own_lines, ""]), encoding="utf-8")
        constraints.write_text("\n".join([*installed_versions(requirements.pinned), ""]), encoding="utf-8")
        command = _INSTALLERS[name](folder, platform, wanted, constraints, find_uv())
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- ours
    if done.returncode:
        msg = (
            f"{name} could not install what {requirements.source} asks for:\n{_last_lines(done.stderr or done.stdout)}"
        )
        raise ConfigError(msg)
    if unfit := list(misfits(folder, platform)):
        msg = (
            f"these do not run on Lambda's Python {platform.python} for {platform.arch}: {'; '.join(unfit)}; take "
            "versions that have wheels for it, or another --arch or --python"
        )
        raise ConfigError(msg)
    return name


def _with_uv(folder: Path, platform: Platform, wanted: Path, constraints: Path, uv: str | None) -> list[str]:
    if uv is None:
        msg = "there is no uv here; install it, or let pip do it"
        raise ConfigError(msg)
    return [
        *(uv, "pip", "install", "--quiet", "--no-progress", "--python", sys.executable),
        *("--target", str(folder), "--link-mode", "copy", "--no-installer-metadata"),
        *("--python-platform", platform.uv_name(), "--python-version", platform.python),
        *("--requirements", str(wanted), "--constraints", str(constraints)),
    ]


def _with_pip(folder: Path, platform: Platform, wanted: Path, constraints: Path, _uv: str | None) -> list[str]:
    if importlib.util.find_spec("pip") is None:
        msg = "there is neither uv nor pip in this environment: install uv"
        raise ConfigError(msg)
    platforms: Sequence[str] = [word for tag in platform.tags() for word in ("--platform", tag)]
    return [
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"),
        *("--target", str(folder), "--no-compile", "--no-warn-conflicts", "--root-user-action", "ignore"),
        *("--implementation", "cp", "--python-version", platform.python, "--only-binary", ":all:", *platforms),
        *("--requirement", str(wanted), "--constraint", str(constraints)),
    ]


_INSTALLERS: dict[str, Installer] = {"uv": _with_uv, "pip": _with_pip}


def _last_lines(output: str) -> str:
    lines = [line.rstrip() for line in output.splitlines() if line.strip() and not line.startswith("WARNING")]
    return "\n".join(f"  {line}" for line in lines[-12:])
