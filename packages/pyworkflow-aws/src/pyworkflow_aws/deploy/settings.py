"""What of a deployment belongs to the project rather than to one command line."""

from __future__ import annotations

from attrs import frozen


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
