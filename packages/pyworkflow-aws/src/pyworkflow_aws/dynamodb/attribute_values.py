"""DynamoDB's attribute values, in which each value is named by its kind."""

from __future__ import annotations

from typing import Any

from pyworkflow_aws.dynamodb.keys import Item, Key


def coded(value: str | int | bytes) -> dict[str, Any]:
    """Return a value as DynamoDB takes it."""
    if isinstance(value, str):
        return {"S": value}
    return {"B": value} if isinstance(value, bytes) else {"N": str(value)}


def coded_item(item: Item) -> dict[str, Any]:
    """Return an item as DynamoDB takes it."""
    return {name: coded(value) for name, value in item.items()}


def coded_key(key: Key) -> dict[str, Any]:
    """Return a key as DynamoDB takes it."""
    return {"PK": {"S": key[0]}, "SK": {"S": key[1]}}


def plain(item: dict[str, Any]) -> Item:
    """Return the plain values of an item as DynamoDB gives it."""
    made: Item = {}
    for name, coded_value in item.items():
        ((kind, value),) = coded_value.items()
        made[name] = int(value) if kind == "N" else bytes(value) if kind == "B" else value
    return made
