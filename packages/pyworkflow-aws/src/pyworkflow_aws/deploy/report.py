"""A bundle and a plan as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pyworkflow_aws.deploy.bundle.build import Bundle
from pyworkflow_aws.deploy.cloud.plan import Action
from pyworkflow_aws.deploy.cloud.plan_text import describe, details
from pyworkflow_aws.deploy.cloud.policy import Place
from pyworkflow_aws.deploy.cloud.target import Target


def summary(bundle: Bundle) -> str:
    """Return what is in a bundle, in one line."""
    code = "with byte code" if bundle.compiled else "without byte code, as its Python is not on this machine"
    return (
        f"zip: {len(bundle.files)} of your files, {len(bundle.distributions)} packages, {_megabytes(len(bundle.data))} "
        f"({_megabytes(bundle.size)} unpacked), {code}"
    )


def contents(bundle: Bundle) -> Iterator[str]:
    """Yield what is in a bundle, and what was left out and why."""
    yield summary(bundle)
    yield "your files:"
    yield from (f"  {name}" for name in bundle.files)
    yield f"packages, for {bundle.requirements} and for pyworkflow itself, by {bundle.installer}:"
    yield from (f"  {name} ({_megabytes(size)})" for name, size in bundle.distributions.items())
    if bundle.services:
        yield f"AWS services besides the usual ones: {', '.join(sorted(bundle.services))}"
    if bundle.left_out:
        yield "stays behind:"
        yield from (f"  {item.path} ({item.reason})" for item in bundle.left_out)


def steps(target: Target, place: Place, actions: Iterable[Action]) -> Iterator[str]:
    """Yield the actions of a plan, with their details."""
    listed = list(actions)
    where = f"{target.name!r} in {place.region}, account {place.account}"
    if not listed:
        yield f"nothing to do: {where} is as it should be"
        return
    yield f"{where}:"
    for action in listed:
        yield f"  {describe(action)}"
        yield from (f"      {line}" for line in details(action))


def _megabytes(size: int) -> str:
    return f"{size / (1 << 20):.1f} MB"
