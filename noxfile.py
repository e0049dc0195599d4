"""What is checked: `python3 dev.py nox -l` lists the sessions, `python3 dev.py nox -s lint` runs one."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.download_python = "never"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "layers", "wheels"]

ROOT = Path(__file__).parent
PYTHONS = ["3.11", "3.12", "3.13"]
META = nox.project.load_toml("pyproject.toml")
VERSION = META["project"]["version"]
DIST = ROOT / "dist"
CONSTRAINTS = ["-c", "constraints.txt"]

CORE = "packages/pyworkflow-core[cli,otel,schedules,testing]"
SQLITE = "packages/pyworkflow-sqlite"
CELERY = "packages/pyworkflow-celery"
AWS = "packages/pyworkflow-aws"
EVERYTHING = [CORE, SQLITE, CELERY, AWS, "."]

# Each suite: what it tests, and the packages it needs.
SUITES = {
    "core": ("packages/pyworkflow-core/tests", [CORE]),
    "sqlite": ("packages/pyworkflow-sqlite/tests", [CORE, SQLITE]),
    "celery": ("packages/pyworkflow-celery/tests", [CORE, SQLITE, CELERY]),
    "aws": ("packages/pyworkflow-aws/tests", [CORE, SQLITE, AWS]),
    "matrix": ("tests", EVERYTHING),
}


def let_pyenv_answer() -> None:
    """Let pyenv's shims answer to every supported version that pyenv has, and not only to the chosen one."""
    pyenv = shutil.which("pyenv")
    if pyenv is None:
        return
    listed = subprocess.run([pyenv, "versions", "--bare"], capture_output=True, text=True, check=False).stdout.split()
    chosen = [os.environ["PYENV_VERSION"]] if "PYENV_VERSION" in os.environ else []
    for minor in PYTHONS:
        chosen += [name for name in listed if re.fullmatch(rf"{re.escape(minor)}\.\d+", name)][-1:]
    os.environ["PYENV_VERSION"] = ":".join(chosen)


let_pyenv_answer()


def install(session: nox.Session, groups: list[str], packages: list[str] | None = None) -> None:
    """Install dependency groups, and packages of this repository by path, never by name."""
    build = ["build"] if packages else []
    session.install(*CONSTRAINTS, *nox.project.dependency_groups(META, *groups, *build))
    if packages:
        editable = [part for package in packages for part in ("--editable", package)]
        session.install(*CONSTRAINTS, "--no-build-isolation", *editable)


@nox.session(python=PYTHONS)
@nox.parametrize("suite", [nox.param(name, id=name) for name in SUITES])
def tests(session: nox.Session, suite: str) -> None:
    """Run the tests of one package, or those that cross packages (matrix)."""
    folder, packages = SUITES[suite]
    install(session, ["test", "redis"] if CELERY in packages else ["test"], packages)
    session.run("pytest", *(session.posargs or ["-n", "auto", "--maxprocesses", "4", "--dist", "loadfile", folder]))


@nox.session
def fuzz(session: nox.Session) -> None:
    """Run 500 random programs on durable Lambda, interrupted, changed, told things, cancelled (about four minutes)."""
    install(session, ["test"], EVERYTHING)
    tests = "packages/pyworkflow-aws/tests/runtime/test_fuzz.py"
    session.run("pytest", tests, *session.posargs, env={"PYWORKFLOW_FUZZ": "500"})


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format."""
    install(session, ["lint"])
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of the source, and of the public API as users see it."""
    install(session, ["types", "test"], EVERYTHING)
    session.run("mypy")
    session.run("pyright", env={"PYRIGHT_PYTHON_USE_BUNDLED_PYRIGHT": "1"})


@nox.session
def layers(session: nox.Session) -> None:
    """Check that imports point downwards."""
    install(session, ["layers"], EVERYTHING)
    session.run("lint-imports", "--no-cache")


@nox.session
def dist(session: nox.Session) -> None:
    """Build the sdist and wheel of every distribution into dist/."""
    install(session, ["dist"])
    shutil.rmtree(DIST, ignore_errors=True)
    for package in [".", *(path.parent for path in sorted(ROOT.glob("packages/*/pyproject.toml")))]:
        session.run("python", "-m", "build", "--no-isolation", "--outdir", DIST, package, silent=True)
    session.log("built %s", ", ".join(sorted(path.name for path in DIST.iterdir())))


@nox.session(requires=["dist"], reuse_venv=False)
@nox.parametrize(
    "asked, expected",
    [
        nox.param(
            "pyworkflow[celery,aws]",
            ["pyworkflow", "pyworkflow-aws", "pyworkflow-celery", "pyworkflow-core", "pyworkflow-sqlite"],
            id="extras",
        ),
        nox.param("pyworkflow", ["pyworkflow", "pyworkflow-core", "pyworkflow-sqlite"], id="plain"),
        nox.param("pyworkflow-core", ["pyworkflow-core"], id="core"),
    ],
)
def wheels(session: nox.Session, asked: str, expected: list[str]) -> None:
    """Install from the built wheels into a clean environment, see that just these came, and try them."""
    session.install(*CONSTRAINTS, *foreign_requirements(asked, expected))
    # What is ours comes from dist/ and from nowhere else: the name is somebody else's on the public index.
    session.install("--no-index", "--find-links", DIST, f"{asked}=={VERSION}")
    session.run("python", "tests/smoke.py", *expected)
    if "pyworkflow" in expected:
        session.run("pyworkflow", "--version")


def foreign_requirements(asked: str, expected: list[str]) -> list[str]:
    """What the expected packages need of others, as their project files say."""
    found = []
    for name in expected:
        folder = "." if name == "pyworkflow" else f"packages/{name}"
        project = nox.project.load_toml(f"{folder}/pyproject.toml")["project"]
        found += project["dependencies"]
        if asked.startswith("pyworkflow[") or asked == "pyworkflow":
            extras = project.get("optional-dependencies", {})
            found += extras.get("cli", []) + extras.get("schedules", [])
    return [requirement for requirement in found if not requirement.startswith("pyworkflow")]


@nox.session
def chaos(session: nox.Session) -> None:
    """Run 500 workflows on Celery workers that are killed at random, or as many as are named."""
    install(session, ["test", "redis"], [CORE, SQLITE, CELERY])
    runs = session.posargs[0] if session.posargs else "500"
    session.run("pytest", "-s", "packages/pyworkflow-celery/tests/test_chaos.py", env={"PYWORKFLOW_CHAOS_RUNS": runs})


@nox.session
def reliability(session: nox.Session) -> None:
    """Try what the figures of docs/reliability.md are of; ``-- --long`` tries much more."""
    install(session, ["test", "redis"], EVERYTHING)
    session.run("python", "tools/reliability.py", *session.posargs)


@nox.session(name="fuzz-bytes")
def fuzz_bytes(session: nox.Session) -> None:
    """Feed bytes to what reads bytes: ``-- --runs 2000`` is quick, and 100,000 of each is what it does else."""
    install(session, ["fuzz"], [CORE])
    session.run("python", "tools/fuzz_bytes.py", *session.posargs)


@nox.session
def audit(session: nox.Session) -> None:
    """Look for known weaknesses of what is pinned, and for unsafe code by the rules of bandit."""
    install(session, ["audit", "lint"])
    session.run("ruff", "check", "--select", "S", ".")
    session.run("pip-audit", "--requirement", "constraints.txt", "--no-deps", "--disable-pip")


@nox.session
def simulate(session: nox.Session) -> None:
    """Run the simulation at length: ``nox -s simulate -- --seeds 100000``."""
    install(session, [], [CORE])
    session.run("python", "-m", "pyworkflow.testing.simulate", *(session.posargs or ["--seeds", "100000"]))


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmarks."""
    install(session, ["test", "redis"], EVERYTHING)
    session.run("python", "benchmarks/run.py", *session.posargs)


@nox.session(name="bench-guard")
def bench_guard(session: nox.Session) -> None:
    """Check what a run costs, in counts that a busy machine does not change."""
    install(session, [], [CORE, SQLITE])
    session.run("python", "benchmarks/guard.py")
