"""``pyworkflow dev``: runs workflows on a local AWS Lambda."""

from __future__ import annotations

import signal
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyworkflow.cli.view.output import say
from pyworkflow.config.durations import seconds
from pyworkflow.errors import ConfigError

if TYPE_CHECKING:
    from pyworkflow_aws.testing import Sandboxed


@click.command(short_help="Run a local AWS Lambda with your workflows.")
@click.argument("module", metavar="MODULE[:APP]")
@click.option("--name", help="The function's name; by default the module's last word.")
@click.option("--port", type=int, default=4570, show_default=True, help="0: any that is free.")
@click.option("--timeout", default="15m", show_default=True, metavar="TIME", help="Of one invocation.")
@click.option("--skip-time", is_flag=True, help="End sleeps and pauses between attempts at once.")
def dev(module: str, name: str | None, port: int, timeout: str, *, skip_time: bool) -> None:
    """Run a local AWS Lambda with the workflows of MODULE, without an account.

    Handlers run as in AWS: in processes of their own under AWS's runtime client, durable ones with AWS's local durable
    runner behind them. MODULE is a dotted name, found from here, or a path that ends in .py; the code is loaded when a
    process begins, so end this command and begin it again after a change.

    Two functions are there: NAME, which is durable, and NAME-transient, which is not.

    \b
    Example:
      pyworkflow dev shop/flows.py
    and in another terminal, with what it prints,
      export PYWORKFLOW_AWS_ENDPOINT_URL=http://127.0.0.1:4570 ...
      pyworkflow run shop/flows.py:payment_flow o-1
    """  # noqa: D301 -- \b is for click: it keeps the lines that follow as they are
    try:
        from pyworkflow_aws.testing import Endpoint
    except ImportError as error:
        msg = (
            f"a local Lambda needs pyworkflow-aws with its extra 'dev', e.g. pip install --find-links dist "
            f"'pyworkflow-aws[dev]', after python3 dev.py nox -s dist in a clone: {error}"
        )
        raise ConfigError(msg) from None
    root, target = _place(module)
    name = name or target.partition(":")[0].rpartition(".")[2]
    with tempfile.TemporaryDirectory(prefix="pyworkflow-dev-") as folder:
        log = Path(folder, "log")
        limit = seconds(timeout, name="--timeout")
        functions = functions_of(target, root, timeout=limit, log=log)
        named = {name: functions[0], f"{name}-transient": functions[1]}
        with Endpoint(named, port=port, skip_time=skip_time) as endpoint:
            say(f"{module} is on a local AWS Lambda at {endpoint.url}; it logs to {log}; stop with Ctrl-C")
            for line in _exports(endpoint.url, name):
                click.echo(line)
            _wait()
            say("stopping")


def functions_of(
    target: str, root: Path, *, timeout: float = 900.0, log: Path | None = None, **environment: str
) -> tuple[Sandboxed, Sandboxed]:
    """Return the durable and the transient function of *target*, ``module[:app]``, which is imported from *root*."""
    from pyworkflow_aws.testing import Sandboxed

    variables = {"PYWORKFLOW_MODULE": target, **environment}
    options: dict[str, Any] = {"root": root, "environment": variables, "timeout": timeout}
    if log is not None:
        options["log"] = log
    return (
        Sandboxed("pyworkflow_aws.handler.durable", **options),
        Sandboxed("pyworkflow_aws.handler.transient", durable=False, **options),
    )


def _place(module: str) -> tuple[Path, str]:
    """Return the folder to import from, and the dotted name, with the app if one is named."""
    place, colon, attribute = module.partition(":")
    if not place.endswith(".py"):
        return Path.cwd(), module
    path = Path(place).absolute()
    if not path.is_file():
        msg = f"there is no file {place!r}"
        raise ConfigError(msg)
    folder, parts = path.parent, [path.stem]
    while (folder / "__init__.py").is_file():
        folder, parts = folder.parent, [folder.name, *parts]
    return folder, ".".join(parts) + colon + attribute


def _exports(url: str, name: str) -> list[str]:
    variables = {
        "PYWORKFLOW_DEFAULT_RUNTIME": "durable-lambda",
        "PYWORKFLOW_AWS_ENDPOINT_URL": url,
        "PYWORKFLOW_AWS_FUNCTION": name,
        "PYWORKFLOW_AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
    }
    return [f"export {key}={value}" for key, value in variables.items()]


def _wait() -> None:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    while not stop.wait(0.5):
        pass
