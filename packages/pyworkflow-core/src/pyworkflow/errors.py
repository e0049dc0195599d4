"""Every exception the package raises on purpose; the one base is `WorkflowError`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyworkflow.events import ErrorRecord


class WorkflowError(Exception):
    """Base of all exceptions of the package; never raised itself."""


# -- set-up ------------------------------------------------------------------


class ConfigError(WorkflowError, ValueError):
    """A setting, an option or a config string is wrong; the message names it and what is known."""


class DefinitionError(WorkflowError, TypeError):
    """A workflow or step is declared in a way that cannot work."""


class BackendNotFound(ConfigError, LookupError):
    """No plugin offers the runtime, storage or retry policy asked for."""


class ExtraMissing(ConfigError):
    """A plugin is installed without the extra of its package that it needs; others go on as if it were not there."""


class PluginConflict(ConfigError):
    """Two plugins offer one name."""


class Unsupported(WorkflowError, NotImplementedError):
    """The backend does not have the capability that was asked of it."""


# -- runs --------------------------------------------------------------------


class RunNotFound(WorkflowError, LookupError):
    """The storage has no run with this id."""


class RunExists(WorkflowError):
    """The run id, or the idempotency key, belongs to another run already."""


class RunEnded(WorkflowError):
    """The run is in a final state and takes nothing more."""


class RunCancelled(WorkflowError):
    """The result was asked of a run that was cancelled."""


class RunTerminated(WorkflowError):
    """The result was asked of a run that was terminated."""


class RunBlocked(WorkflowError):
    """The run cannot go on until somebody looks at it; nothing of it is lost.

    After the cause is mended, ``pyworkflow.retry_run`` or ``pyworkflow runs retry`` lets it go on.
    """


class NonDeterminism(WorkflowError):
    """A workflow does not ask again for what its history says it asked for."""


class HistoryTooLong(WorkflowError):
    """A run's history is as long as one may be; the workflow has to go on as a new run."""


class WorkflowTimeout(WorkflowError, TimeoutError):
    """A run took longer than the ``timeout`` of its workflow."""


class UndoFailed(WorkflowError):
    """The workflow failed, and so did a step that undoes one of its steps; the causes say how."""


class NotInWorkflow(WorkflowError, RuntimeError):
    """A workflow tried to do by itself what belongs into a step: sockets, threads, processes."""


# -- hooks -------------------------------------------------------------------


class HookTaken(WorkflowError):
    """A hook with this token is open already; *token* is its SHA-256, in hex."""

    def __init__(self, message: str, token: str = "") -> None:
        super().__init__(message)
        self.token = token


class HookClosed(WorkflowError, LookupError):
    """No hook takes payloads for this token: it had its payload, has expired, its run has ended, or it never was."""


class HookExpired(WorkflowError, TimeoutError):
    """A hook was sent nothing before its ``timeout``."""


# -- steps -------------------------------------------------------------------


class StepFailed(WorkflowError):
    """A step failed, and the class of its error is not loaded in this process.

    `record` holds what is known of the error: type, message, traceback, causes.
    """

    def __init__(self, message: str, record: ErrorRecord | None = None) -> None:
        super().__init__(message)
        self.record = record


class StepInterrupted(WorkflowError):
    """The worker was lost while it carried the step out, and the step may not be tried again."""


class StepTimeout(WorkflowError, TimeoutError):
    """An attempt of a step took longer than its ``timeout``."""


class FatalError(WorkflowError):
    """Raise it in a step: the error is not retried."""


class RetryableError(WorkflowError):
    """Raise it in a step: the error is retried, after *retry_after* where that is given.

    Args:
        message: What went wrong.
        retry_after: Pause before the next attempt: seconds, ``"30s"``, a `timedelta`, or an aware `datetime`.
            It overrides the delay of the retry policy, not the number of attempts.
    """

    def __init__(self, message: str = "", *, retry_after: float | str | timedelta | datetime | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


# -- data --------------------------------------------------------------------


class Unstorable(WorkflowError, TypeError):
    """A value cannot be stored, or what is stored does not fit its annotation; the message has the path."""


class PayloadTooLarge(Unstorable):
    """A value is larger than what a run may store."""


# -- storage -----------------------------------------------------------------


class StorageError(WorkflowError):
    """The storage failed: disk full, file corrupt, service away. Nothing acknowledged is lost."""


class StorageBusy(StorageError):
    """Others kept the storage locked for longer than its time limit; trying again is safe."""


class DamagedHistory(StorageError):
    """What is stored of one run cannot be read: it is damaged, or written by a newer version. Other runs go on."""


class Conflict(WorkflowError):
    """History grew since it was read."""


class LeaseLost(WorkflowError):
    """Somebody else holds the lease now; what was to be written under it was not written."""
