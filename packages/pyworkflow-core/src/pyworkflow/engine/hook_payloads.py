"""Payloads for hooks, checked where they are sent: the type is what the workflow's code says, so it is replayed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pyworkflow.authoring.inbox import Inbox
from pyworkflow.errors import ConfigError, HookClosed, NonDeterminism, RunBlocked, Unstorable
from pyworkflow.events import Event, OpenHook, Plain, Requested, RunStarted
from pyworkflow.model import Hook
from pyworkflow.replay.history import effective
from pyworkflow.replay.machine import Machine

if TYPE_CHECKING:
    from pyworkflow.authoring.definitions import Registry
    from pyworkflow.codec import Codec

NO_HOOK = (
    "no hook takes payloads for this token: it had its payload, has expired or was closed, its run has ended, or the "
    "token is wrong"
)


def fitting_payload(registry: Registry, codec: Codec, hook: Hook, events: Sequence[Event], payload: Any) -> Plain:
    """Return *payload* as it is stored.

    Args:
        registry: Where the workflow is looked up.
        codec: That of the application.
        hook: The hook.
        events: The history of its run.
        payload: An instance of the hook's type, or plain JSON values that make one.

    Raises:
        HookClosed: The workflow waits for it no longer.
        Unstorable: The payload does not fit.
        ConfigError: The hook has a type, and its workflow is not known here.
        RunBlocked: The workflow's code does not fit its history.
    """
    asked = [event.command for event in events if isinstance(event, Requested)]
    command = next((command for command in asked if isinstance(command, OpenHook) and command.op == hook.op), None)
    if command is None or not command.typed:
        return _stored(hook, codec.encoder(), payload)
    workflow = registry.workflows.get(_workflow_of(events))
    if workflow is None:
        msg = (
            f"the payload of hook {hook.name!r} has to fit a type that workflow {_workflow_of(events)!r} says, and "
            "that one is not known in this process; import the module that declares it"
        )
        raise ConfigError(msg)
    machine = Machine(workflow.body, hook.run_id, codec=codec)
    try:
        machine.replay(effective(events))
        pending = machine.pending.get(hook.op)
        if pending is None or not isinstance(pending.receiver, Inbox):
            raise HookClosed(NO_HOOK)
        return _stored(hook, pending.receiver.encode, payload)
    except NonDeterminism as error:
        raise RunBlocked(f"the payload of hook {hook.name!r} cannot be checked: {error}") from error
    finally:
        machine.close()


def _stored(hook: Hook, encode: Callable[[Any], Plain], payload: Any) -> Plain:
    try:
        return encode(payload)
    except Unstorable as error:
        raise type(error)(f"the payload of hook {hook.name!r} {error}") from error.__cause__


def _workflow_of(events: Sequence[Event]) -> str:
    first = events[0] if events else None
    return first.workflow if isinstance(first, RunStarted) else ""
