"""The function to deploy, as the command line describes it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from attrs import Attribute, Factory, field, frozen

from pyworkflow.config.coercion import did_you_mean
from pyworkflow.config.config_string import Spec, build
from pyworkflow.config.durations import text as duration_text
from pyworkflow.errors import ConfigError
from pyworkflow_aws.storage_factory import STORAGES

MODULE_VARIABLE = "PYWORKFLOW_MODULE"
"""The environment variable with the module that the handler imports."""

BUCKET_VARIABLE = "PYWORKFLOW_AWS_BUCKET"
"""The environment variable with the bucket for large values."""

STORAGE_VARIABLE = "PYWORKFLOW_STORAGE"
REGION_VARIABLE = "PYWORKFLOW_AWS_REGION"

ALIAS = "live"
"""What callers name: it points to the version that new runs start on."""

TAG = "pyworkflow"
"""The tag on what a deployment made: nothing without it is ever changed or deleted."""

LOG_RETENTIONS = (
    1,
    3,
    5,
    7,
    14,
    30,
    60,
    90,
    120,
    150,
    180,
    365,
    400,
    545,
    731,
    1096,
    1827,
    2192,
    2557,
    2922,
    3288,
    3653,
)
"""The days that CloudWatch Logs can keep logs for."""

LONGEST_RUN = 366 * 86400
"""The most seconds that AWS lets a durable run take."""

_OURS = {MODULE_VARIABLE, BUCKET_VARIABLE}
_ENVIRONMENT_LIMIT = 4096
_ROLE_NAME_LIMIT = 64


@frozen
class Kind:
    """The kind of function that a runtime needs.

    Attributes:
        handler: What Lambda calls.
        durable: Whether the function is a durable one.
        pythons: The Pythons that Lambda can run it on.
    """

    handler: str
    durable: bool
    pythons: tuple[str, ...]


KINDS: Mapping[str, Kind] = {
    "durable-lambda": Kind("pyworkflow_aws.handler.durable", durable=True, pythons=("3.13", "3.14")),
    "lambda": Kind("pyworkflow_aws.handler.transient", durable=False, pythons=("3.11", "3.12", "3.13", "3.14")),
}
"""The runtimes that can be deployed."""


@frozen
class Table:
    """A DynamoDB table that is a storage of runs.

    Attributes:
        name: Its name.
        region: Its region; None: that of its user.
        bucket: An S3 bucket for what is larger than an item.
    """

    name: str
    region: str | None = None
    bucket: str | None = None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Table | None:
        """Return the table that a function with these variables uses, if it uses one in AWS.

        Raises:
            ConfigError: The variables name a storage with options that do not fit.
        """
        text = environment.get(STORAGE_VARIABLE)
        if not text:
            return None
        spec = Spec.parse(text)
        factory = STORAGES.get(spec.name)
        if factory is None:
            return None
        build(factory, spec, "storage")
        options = spec.options
        if "endpoint" in options:
            return None
        return cls(spec.place, options.get("region") or environment.get(REGION_VARIABLE), options.get("bucket"))


def _check_name(_target: Target, _field: Attribute[str], name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        msg = f"--name {name!r}: a function's name has 1 to 64 letters, digits, '-' and '_'"
        raise ConfigError(msg)


def _check_environment(_target: Target, _field: Attribute[Any], environment: Mapping[str, str]) -> None:
    for key in environment:
        if not re.fullmatch(r"[A-Za-z]\w+", key) or key.startswith(("AWS_", "LAMBDA_")) or key in _OURS:
            msg = (
                f"--env {key}: it begins with a letter, has letters, digits and '_', and is not one that is set already"
            )
            raise ConfigError(msg)
    if sum(len(key.encode()) + len(value.encode()) for key, value in environment.items()) > _ENVIRONMENT_LIMIT:
        msg = "--env: Lambda takes 4 KB of variables in all; keep large values in Parameter Store or Secrets Manager"
        raise ConfigError(msg)


def _within(low: int, high: int, option: str, unit: str) -> Any:
    def check(_target: Target, _field: Attribute[int], value: int) -> None:
        if not low <= value <= high:
            msg = f"{option} {value}: it is between {low} and {high} {unit}"
            raise ConfigError(msg)

    return check


def _check_log_days(_target: Target, _field: Attribute[int], days: int) -> None:
    if days not in LOG_RETENTIONS:
        msg = f"--log-days {days}: AWS keeps logs for one of {', '.join(map(str, LOG_RETENTIONS))} days"
        raise ConfigError(msg)


def _check_run_time(_target: Target, _field: Attribute[int], seconds: int) -> None:
    if not 1 <= seconds <= LONGEST_RUN:
        msg = f"--run-timeout {duration_text(seconds)}: it is between 1 second and 366 days"
        raise ConfigError(msg)


@frozen(kw_only=True)
class Target:
    """A function to deploy.

    Attributes:
        name: The function's name.
        kind: What its runtime means.
        module: The module to import, by dotted name.
        python: The Python it runs on, such as ``3.13``.
        arch: ``arm64`` or ``x86_64``.
        memory: In MB; processor time goes with it.
        timeout: How long one invocation may take, in seconds.
        run_timeout: How long a durable run may take, in seconds.
        history_days: How long AWS keeps the history of a durable run that has ended.
        log_days: How long the log is kept.
        environment: Variables besides our own.
        keep: How many versions to keep besides those that runs need.
        role: The ARN of a role to use instead of an own one.
        statements: More permissions of the own role.
        table: The DynamoDB table of runs that the variables name, if they name one.
        bucket: Where a zip goes that is too large for a direct upload, and values that are too large to be kept with a
            durable run.
    """

    name: str = field(validator=_check_name)
    kind: Kind
    module: str
    python: str
    arch: str = "arm64"
    memory: int = field(default=512, validator=_within(128, 10240, "--memory", "MB"))
    timeout: int = field(default=900, validator=_within(1, 900, "--timeout", "seconds"))
    run_timeout: int = field(default=LONGEST_RUN, validator=_check_run_time)
    history_days: int = field(default=30, validator=_within(1, 90, "--history-days", "days"))
    log_days: int = field(default=30, validator=_check_log_days)
    environment: Mapping[str, str] = field(default=Factory(dict), validator=_check_environment, repr=False)
    keep: int = field(default=5, validator=_within(2, 1000, "--keep", "versions"))
    role: str | None = None
    statements: tuple[Mapping[str, Any], ...] = ()
    bucket: str | None = None
    table: Table | None = field(default=Factory(lambda self: Table.of(self.environment), takes_self=True), init=False)

    @property
    def log_group(self) -> str:
        """The name of the log group."""
        return f"/aws/lambda/{self.name}"

    def role_name(self, region: str) -> str:
        """Return the name of the own role; roles are of no region, functions are of one."""
        name = f"pyworkflow-{self.name}-{region}"
        if len(name) <= _ROLE_NAME_LIMIT:
            return name
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        return f"{name[: _ROLE_NAME_LIMIT - 9]}-{digest}"

    def own_environment(self) -> dict[str, str]:
        """Return the variables that pyworkflow itself sets."""
        bucket = {} if self.bucket is None or not self.kind.durable else {BUCKET_VARIABLE: self.bucket}
        return {MODULE_VARIABLE: self.module, **bucket}

    def configuration(self, role_arn: Any) -> dict[str, Any]:
        """Return the function's configuration in the words of the Lambda API; CloudFormation has the same ones."""
        configuration = {
            "Runtime": f"python{self.python}",
            "Handler": self.kind.handler,
            "Role": role_arn,
            "Timeout": self.timeout,
            "MemorySize": self.memory,
            "Environment": {"Variables": {**self.environment, **self.own_environment()}},
            "LoggingConfig": {
                "LogFormat": "JSON",
                "ApplicationLogLevel": "INFO",
                "SystemLogLevel": "WARN",
                "LogGroup": self.log_group,
            },
        }
        if self.kind.durable:
            configuration["DurableConfig"] = {
                "ExecutionTimeout": self.run_timeout,
                "RetentionPeriodInDays": self.history_days,
            }
        return configuration


def kind_of(runtime: str) -> Kind:
    """Return what *runtime* means.

    Raises:
        ConfigError: It cannot be deployed.
    """
    if runtime not in KINDS:
        msg = f"there is no runtime {runtime!r}{did_you_mean(runtime, KINDS)} to deploy, but {' and '.join(KINDS)}"
        raise ConfigError(msg)
    return KINDS[runtime]


def settle_python(runtime: str, asked: str | None, here: str) -> str:
    """Return the Python to deploy for: the one *asked* for, else the one that runs *here* if Lambda has it.

    Raises:
        ConfigError: The runtime cannot run on it.
    """
    pythons = kind_of(runtime).pythons
    if asked is None:
        return here if here in pythons else next((python for python in pythons if python >= "3.13"), pythons[-1])
    if asked not in pythons:
        msg = f"--python {asked}: {runtime} runs on Python {', '.join(pythons)}"
        raise ConfigError(msg)
    return asked
