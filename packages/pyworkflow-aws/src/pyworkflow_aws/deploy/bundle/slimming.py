"""Leaves unused services out of botocore, whose descriptions are by far the largest part of a function."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

KEPT = ("dynamodb", "events", "kms", "lambda", "logs", "s3", "scheduler", "secretsmanager", "sns", "sqs", "ssm", "sts")
"""The services that are always kept."""

_CALLS = re.compile(rb"(?:client|resource|create_client)\(\s*(?:service_name\s*=\s*)?[\"']([\w.-]+)[\"']")
_TEXTS = re.compile(rb"[\"']([a-z0-9][a-z0-9.-]*)[\"']")


def slim(folder: Path, users: Iterable[Path], services: Iterable[str] = ()) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return the services to keep beyond `KEPT`, and how the names of files in *folder* begin that can be left out.

    Kept are *services*, those whose names occur as texts in the files of *users*, and those that another package in
    *folder* makes clients of.
    """
    data = folder / "botocore" / "data"
    if not data.is_dir():
        return frozenset(), ()
    known = {path.name for path in data.iterdir() if path.is_dir()}
    wanted = set(services) | _named(_TEXTS, users) | _named(_CALLS, _others(folder))
    extra = frozenset((wanted & known) - set(KEPT))
    unused = sorted(known - extra - set(KEPT))
    return extra, tuple(f"{package}/data/{name}/" for package in ("botocore", "boto3") for name in unused)


def _named(pattern: re.Pattern[bytes], files: Iterable[Path]) -> set[str]:
    return {found.decode() for path in files for found in pattern.findall(path.read_bytes())}


def _others(folder: Path) -> Iterable[Path]:
    """Yield the modules of packages that are not the AWS SDK itself."""
    aws = {"boto3", "botocore", "s3transfer"}
    return (path for path in sorted(folder.rglob("*.py")) if path.relative_to(folder).parts[0] not in aws)
