"""The runtime ``durable-lambda``: the core's machine inside AWS's durable execution SDK."""
