"""The runtime ``durable-lambda``: the core's machine inside AWS's durable execution SDK.

`client` starts, lists and controls runs; `execution` runs them in the function; `replay` is what both share: how a run
is recorded, and how it is replayed from that.
"""
