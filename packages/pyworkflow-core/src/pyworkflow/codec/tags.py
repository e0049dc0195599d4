"""The tags of standard Python values in JSON.

JSON values stand for themselves. Everything else is written as a dict with one key that begins with ``~``, its tag:
``{"~tuple": [1, 2]}``. A dict of the user's that looks like one is escaped. Only the tags that `tag_reader` lists are
read, and none of them imports or calls anything of the user's.
"""

from __future__ import annotations

from typing import Any

UNION = "~union"
"""The tag of a member of a union. Only annotations give it a meaning, so it is passed on like an ordinary dict."""


class Members(list[Any]):
    """The members of a set that are not hashable any more; written as a list, in an order of its own."""


def looks_like_a_tag(value: dict[Any, Any]) -> bool:
    """Whether a dict with one key would be read as a tagged value."""
    key = next(iter(value))
    return type(key) is str and key[:1] == "~" and key != UNION
