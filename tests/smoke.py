"""Says whether an installation from wheels works; its arguments are the distributions that must be there."""

import contextlib
import importlib.util
import sys
import tempfile
from importlib.metadata import distributions

import pyworkflow
from pyworkflow import configure, step, workflow


@step
async def double(number: int) -> int:
    return 2 * number


@workflow(durable=True)
async def add_doubled(number: int) -> int:
    return await double(number) + await double(number)


def main(expected: list[str]) -> None:
    found = sorted({dist.name for dist in distributions() if dist.name.startswith("pyworkflow")})
    assert found == sorted(expected), f"installed are {found}, and should be {sorted(expected)}"

    cli = importlib.util.find_spec("click"), importlib.util.find_spec("rich")
    assert all(cli) if "pyworkflow" in expected else not any(cli), f"click and rich: {cli}"

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        configure(storage="sqlite:///smoke.db" if "pyworkflow-sqlite" in expected else "memory://")
        assert pyworkflow.run(add_doubled, 1) == 4
    print(f"a durable workflow ran on {sys.version.split()[0]} with {', '.join(found)}")


if __name__ == "__main__":
    main(sys.argv[1:])
