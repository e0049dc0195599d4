"""An S3 bucket for what is too large for an item."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pyworkflow.errors import StorageError

_PAGE = 1000


class Bucket:
    """Objects below a prefix of a bucket.

    Args:
        name: Of the bucket.
        prefix: Of all objects, without a slash at its end.
    """

    def __init__(self, name: str, prefix: str) -> None:
        self.name = name
        self._prefix = prefix
        self._boto: Any = None
        self._call: Callable[..., dict[str, Any]] | None = None

    def open(self, boto: Any, call: Callable[..., dict[str, Any]]) -> None:
        """Use boto3's client *boto*, by way of *call*, which repeats what may be repeated."""
        self._boto, self._call = boto, call

    def close(self) -> None:
        """Close connections."""
        boto, self._boto = self._boto, None
        if boto is not None:
            boto.close()

    def put(self, key: str, data: bytes) -> None:
        """Write an object."""
        self._do("put_object", Key=f"{self._prefix}/{key}", Body=data)

    def get(self, key: str) -> bytes | None:
        """Return an object, if it is there."""
        from botocore.exceptions import ClientError

        try:
            found = self._do("get_object", Key=f"{self._prefix}/{key}")
        except StorageError as error:
            cause = error.__cause__
            if isinstance(cause, ClientError) and cause.response["Error"]["Code"] in {"NoSuchKey", "404"}:
                return None
            raise
        with found["Body"] as body:
            return bytes(body.read())

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects."""
        objects = [{"Key": f"{self._prefix}/{key}"} for key in keys]
        for at in range(0, len(objects), _PAGE):
            self._do("delete_objects", Delete={"Objects": objects[at : at + _PAGE], "Quiet": True})

    def delete_below(self, folder: str) -> None:
        """Delete all objects whose key begins with *folder* and a slash."""
        while True:
            page = self._do("list_objects_v2", Prefix=f"{self._prefix}/{folder}/", MaxKeys=_PAGE)
            found = [str(item["Key"]).removeprefix(f"{self._prefix}/") for item in page.get("Contents", ())]
            if not found:
                return
            self.delete(found)

    def _do(self, operation: str, **parameters: Any) -> dict[str, Any]:
        if self._boto is None or self._call is None:
            msg = f"the storage with the bucket {self.name!r} is closed; open it first"
            raise StorageError(msg)
        return self._call(getattr(self._boto, operation), Bucket=self.name, **parameters)
