"""A zip that depends on nothing but what is in it: the same files make the same bytes."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

_WHEN = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold
_EXECUTABLE = (".so", ".sh")


def pack(files: Mapping[str, Path | bytes]) -> bytes:
    """Return a zip of *files*, which are given by their names in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(files):
            content = files[name]
            entry = zipfile.ZipInfo(name, _WHEN)
            entry.create_system = 3  # Unix, as only there modes mean something
            mode = 0o755 if name.endswith(_EXECUTABLE) else 0o644
            entry.external_attr = (0o100000 | mode) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content if isinstance(content, bytes) else content.read_bytes())
    return buffer.getvalue()


def digest(data: bytes) -> str:
    """Return the ``CodeSha256`` that Lambda computes for a zip."""
    return base64.b64encode(hashlib.sha256(data).digest()).decode()
