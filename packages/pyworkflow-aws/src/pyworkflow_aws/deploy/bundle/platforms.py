"""What Lambda's Pythons run on, and whether a wheel does too."""

from __future__ import annotations

import email
import re
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

_MACHINES = {"arm64": "aarch64", "x86_64": "x86_64"}
_LEGACY = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
_MANYLINUX = re.compile(r"(?P<name>manylinux(?:_(?P<major>\d+)_(?P<minor>\d+)|1|2010|2014))_(?P<machine>\w+)")


@frozen
class Platform:
    """A Python of Lambda's on one kind of processor."""

    python: str
    arch: str

    @property
    def machine(self) -> str:
        """The processor, as wheels call it."""
        return _MACHINES[self.arch]

    @property
    def glibc(self) -> tuple[int, int]:
        """The C library's version: that of Amazon Linux 2 up to Python 3.11, of Amazon Linux 2023 since."""
        return (2, 26) if self.python == "3.11" else (2, 34)

    def tags(self) -> list[str]:
        """Return the platform tags to ask pip for, the newest first."""
        newest = f"manylinux_{self.glibc[0]}_{self.glibc[1]}"
        named = [newest, *(name for name in ("manylinux_2_28",) if self.glibc >= (2, 28)), "manylinux2014"]
        return [f"{name}_{self.machine}" for name in dict.fromkeys(named)]

    def uv_name(self) -> str:
        """Return what uv calls the platform; of Amazon Linux 2's library it knows only an older one."""
        name = "manylinux2014" if self.glibc < (2, 28) else f"manylinux_{self.glibc[0]}_{self.glibc[1]}"
        return f"{self.machine}-{name}"

    def runs(self, tag: str) -> bool:
        """Whether a wheel with this tag, such as ``cp313-cp313-manylinux_2_17_aarch64``, runs here."""
        interpreter, abi, platform = tag.split("-", 2)
        major, minor = map(int, self.python.split("."))
        ours = f"cp{major}{minor}"
        if platform != "any":
            found = _MANYLINUX.fullmatch(platform)
            if found is None or found["machine"] != self.machine:
                return False
            needs = (int(found["major"]), int(found["minor"])) if found["major"] else _LEGACY[found["name"]]
            if needs > self.glibc:
                return False
        if abi == ours:
            return interpreter == ours
        if abi == "abi3":
            return interpreter in {f"cp3{older}" for older in range(2, minor + 1)}
        return abi == "none" and interpreter in {"py3", ours, *(f"py3{older}" for older in range(minor + 1))}


def misfits(folder: Path, platform: Platform) -> Iterator[str]:
    """Yield, for each distribution installed in *folder* that does not run on *platform*, its name and its tags."""
    for wheel in sorted(folder.glob("*.dist-info/WHEEL")):
        tags = email.message_from_string(wheel.read_text(encoding="utf-8")).get_all("Tag") or []
        single = [one for tag in tags for one in _expanded(tag)]
        if not any(platform.runs(tag) for tag in single):
            yield f"{wheel.parent.name.removesuffix('.dist-info')} ({', '.join(tags)})"


def _expanded(tag: str) -> Iterator[str]:
    """Yield the single tags of a compressed one."""
    interpreters, abis, platforms = tag.split("-", 2)
    for interpreter in interpreters.split("."):
        for abi in abis.split("."):
            for platform in platforms.split("."):
                yield f"{interpreter}-{abi}-{platform}"
