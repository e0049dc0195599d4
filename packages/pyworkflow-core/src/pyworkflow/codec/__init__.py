"""The codec: arguments and results as JSON values and back, by their annotations.

It works in two steps. By annotation, attrs classes, dataclasses, enums and the like become dicts, lists and scalars
(`converters`); whatever else is not JSON gets a tag (`tags`). Without an annotation, or under `Any`, only the second
step is taken, and a value of a class that needs its annotation is refused.
"""

from __future__ import annotations

from pyworkflow.codec.codec import Codec, Decoder, Encoder

__all__ = ["Codec", "Decoder", "Encoder"]
