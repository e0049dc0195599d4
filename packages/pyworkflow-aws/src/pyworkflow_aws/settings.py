"""The settings of this package, ``aws_…`` and ``deploy_…``."""

from __future__ import annotations

from attrs import frozen

from pyworkflow.errors import ConfigError


@frozen
class AwsSettings:
    """Where functions are, and how they are called.

    Attributes:
        region: The region; by default as for all of boto3: ``AWS_REGION``, then the profile.
        profile: A profile of the AWS configuration files.
        endpoint_url: Another place to send calls to, such as that of ``pyworkflow dev``.
        function: The function that runs workflows: its name or ARN.
        qualifier: An alias, or a version, of it.
        bucket: An S3 bucket for values that are too large for AWS to keep with a run.
        cancellable: Whether runs on ``durable-lambda`` listen for being cancelled; a run that waits for something is
            charged one operation for it.
    """

    region: str | None = None
    profile: str | None = None
    endpoint_url: str | None = None
    function: str | None = None
    qualifier: str = "live"
    bucket: str | None = None
    cancellable: bool = True

    def named_function(self) -> str:
        """Return the function.

        Raises:
            ConfigError: None is set.
        """
        if self.function is None:
            msg = (
                "no function is named that runs workflows: configure(aws_function=…), PYWORKFLOW_AWS_FUNCTION, or "
                "aws_function in [tool.pyworkflow]; `pyworkflow deploy` makes one, `pyworkflow dev` a local one"
            )
            raise ConfigError(msg)
        return self.function


@frozen
class DeploySettings:
    """Settings whose names begin with ``deploy_``.

    Attributes:
        exclude: Patterns of files that are not shipped, besides the usual ones.
        include: Patterns of files that are shipped although one of these fits.
        services: AWS services that the code uses without naming them in a text.
    """

    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
