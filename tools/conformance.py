"""Counts the kit's cases: how many there are, and how many are run on each backend.

Runs none of them: what pytest collects is counted. Prints a table.
"""

from __future__ import annotations

import io
import os
import sys
from collections import Counter
from contextlib import redirect_stdout
from pathlib import Path
from statistics import mode

import pytest
from attrs import define, field

ROOT = Path(__file__).parents[1]
KIT = "pyworkflow.testing."


@define(eq=False)
class Count:
    """A plugin of pytest that counts the kit's cases by class."""

    cases: Counter[str] = field(factory=Counter)
    kits: dict[str, str] = field(factory=dict)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            bases = getattr(getattr(item, "cls", None), "__mro__", ())
            kit = [base for base in bases if base.__module__.startswith(KIT) and base.__name__.endswith("Conformance")]
            if kit and getattr(kit[0], getattr(item, "originalname", ""), None) is not None:
                name = "::".join(item.nodeid.split("::")[:2])
                self.cases[name] += 1
                self.kits[name] = kit[0].__name__

    def of_each(self, kit: str) -> int:
        """How many cases a kit has: most classes run each of them once."""
        return mode(count for name, count in self.cases.items() if self.kits[name] == kit)


def main() -> int:
    count = Count()
    folders = [str(path) for path in sorted(ROOT.glob("packages/*/tests"))]
    with redirect_stdout(io.StringIO()) as said:
        code = pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", *folders], plugins=[count])
    if code:
        print(said.getvalue())
        return int(code)
    print("| class | kit | cases |\n|---|---|---|")
    for name, cases in count.cases.items():
        print(f"| `{name}` | `{count.kits[name]}` | {cases} |")
    # Those of RuntimeConformance are in DurableConformance too.
    kits = ["StorageConformance", "DurableConformance", "RetryPolicyConformance"]
    storage, runtime, policy = map(count.of_each, kits)
    summary = (
        f"{storage + runtime + policy} ({storage} of storages, {runtime} of runtimes, {policy} of retry policies), "
        f"{count.cases.total():,} on {len(count.cases)} backends"
    )
    print(f"\n{summary}")
    if "RELIABILITY_FIGURES" in os.environ:
        Path(os.environ["RELIABILITY_FIGURES"]).write_text(summary)
    return 0


if __name__ == "__main__":
    sys.exit(main())
