"""One connection, and a thread for it: what waits at the same moment is written in one transaction.

A transaction that is alone, while the disk is quick and nobody else uses the file, is executed where it was
submitted: changing threads twice takes as long as the commit itself.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from attrs import define, field

from pyworkflow.errors import StorageBusy, StorageError, WorkflowError
from pyworkflow_sqlite.connection import begin, connect, insist
from pyworkflow_sqlite.delivery import deliver, settle
from pyworkflow_sqlite.explanations import explained
from pyworkflow_sqlite.files import Files, FilesGone, closing

logger = logging.getLogger(__name__)

QUICK = 0.001
"""As long as the last transaction took less, in seconds, the next one may keep an event loop waiting."""

CHECKPOINT = 250
"""After so many writes the thread moves what was written from the log into the file, so that no commit has to."""

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]
Row = tuple[str, tuple[Any, ...], Any]
"""All that an operation comes to if all is as it expects, and none of it else: a statement that writes one row, its
values, and the result."""


@define(eq=False)
class _Item:
    operation: Operation[Any]
    writes: bool
    row: Row | None = None
    future: asyncio.Future[Any] | Future[Any] | None = None  # None: it is executed at once
    loop: asyncio.AbstractEventLoop | None = None


@define(eq=False)
class _Done:
    """What was executed at once: who awaits its result lets others have their turn first."""

    database: Database
    result: Any

    def __await__(self) -> Generator[None, None, Any]:
        yield
        self.database.end_turn()
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@define(eq=False)
class Database:
    """A SQLite file, its connection, and the thread that uses it.

    Operations are functions of the connection. One that writes must check all that may make it refuse before its first
    write, as it shares its transaction with others.

    Args:
        path: The file; made if it is not there, readable by its owner only.
        synchronous: ``full`` or ``normal``.
        patience: Seconds to wait for others that keep the file locked.
    """

    path: str
    synchronous: str
    patience: float
    commits: int = 0
    _files: Files = field(init=False)
    _lost: FilesGone | None = field(default=None, init=False)  # the files are not those that were opened
    _queue: SimpleQueue[list[_Item] | None] = field(factory=SimpleQueue, init=False)
    _gathered: dict[asyncio.AbstractEventLoop, list[_Item]] = field(factory=dict, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _pid: int = field(default=0, init=False)
    _opening: threading.Lock = field(factory=threading.Lock, init=False)
    _connection: sqlite3.Connection = field(init=False)
    _in_use: threading.Lock = field(factory=threading.Lock, init=False)  # the connection
    _took: float = field(default=QUICK, init=False)
    _submitted: int = field(default=0, init=False)  # in this turn of the event loop
    _alone: bool = field(default=True, init=False)  # no more than one was in the last turn that had any
    _written: int = field(default=0, init=False)

    # -- for callers, on any thread ------------------------------------------------------

    def open(self) -> None:
        """Start the thread, make the file ready; blocks. Does nothing if it is open.

        Raises:
            StorageError: The file cannot be used; the message says why.
        """
        with self._opening:
            if self.is_open:
                return
            queue: SimpleQueue[list[_Item] | None] = SimpleQueue()
            ready: Future[None] = Future()
            thread = threading.Thread(target=self._work, args=(queue, ready), name="pyworkflow-sqlite", daemon=True)
            thread.start()
            ready.result()
            self._queue, self._thread, self._pid = queue, thread, os.getpid()

    @property
    def is_open(self) -> bool:
        """Whether there is a thread; after a fork the child has none."""
        return self._thread is not None and self._pid == os.getpid() and self._thread.is_alive()

    def close(self) -> None:
        """Execute what waits, close the connection, end the thread; blocks."""
        if self.is_open:
            thread, self._thread = self._thread, None
            for loop in list(self._gathered):
                self._queue.put(self._gathered.pop(loop, []))
            self._queue.put(None)
            assert thread is not None  # noqa: S101 -- is_open says so
            thread.join()

    def submit(self, operation: Operation[T], *, writes: bool, row: Row | None = None) -> Awaitable[T]:
        """Execute *operation*, or write the *row* that it amounts to; the result belongs to the running loop."""
        if self._thread is None or self._pid != os.getpid():
            self._reopen()
        self._submitted += 1
        if self._alone and self._submitted == 1 and writes and self._took < QUICK:
            done = self._do_here(operation) if row is None else self._add_here(row)
            if done is not None:
                return done
        return self._gather(_Item(operation, writes, row, loop=asyncio.get_running_loop()))

    def _gather(self, item: _Item) -> Awaitable[Any]:
        """Leave *item* to the thread, together with all that is submitted in this turn of the loop."""
        loop = item.loop
        assert loop is not None  # noqa: S101 -- it was submitted on one
        item.future = future = loop.create_future()
        gathered = self._gathered.get(loop)
        if gathered is None:
            self._gathered[loop] = [item]
            loop.call_soon(self._hand_over, loop)
        else:
            gathered.append(item)
        return future

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give the thread all that was submitted in one turn of the loop: one wake-up and one transaction."""
        items = self._gathered.pop(loop, [])
        self.end_turn(len(items))
        if self._thread is None:
            error = StorageError(f"the storage {self.path} was closed")
            settle([(item.future, error) for item in items])
        else:
            self._queue.put(items)

    def _add_here(self, row: Row) -> _Done | None:
        """Write *row* at once; None: the connection or the file is in use, or the row is not written as it is."""
        if not self._in_use.acquire(blocking=False):
            return None
        statement, values, result = row
        started = time.perf_counter()
        try:
            if not self._commit(self._connection, statement, values):
                return None
        except sqlite3.Error:  # the thread tries again, with patience, and explains it
            return None
        finally:
            self._in_use.release()
        self._took = time.perf_counter() - started
        self._written += 1
        if self._written >= CHECKPOINT:
            self._queue.put([])
        return _Done(self, result)

    def _do_here(self, operation: Operation[Any]) -> _Done | None:
        """Execute *operation* at once; None: the connection or the file is in use."""
        if not self._in_use.acquire(blocking=False):
            return None
        try:
            result = self._carry_out(self._connection, [_Item(operation, writes=True)], patience=0.0)[0]
        finally:
            self._in_use.release()
        if isinstance(result, StorageBusy):
            return None
        if self._written >= CHECKPOINT:
            self._queue.put([])
        return _Done(self, result)

    def end_turn(self, gathered: int = 1) -> None:
        """Note whether what was submitted in a turn of the event loop was alone."""
        self._alone = self._submitted == gathered == 1
        self._submitted = 0

    def call(self, operation: Operation[T], *, writes: bool) -> T:
        """Have the thread execute *operation* and block until it has."""
        self.insist_open()
        future: Future[T] = Future()
        self._queue.put([_Item(operation, writes, future=future)])
        return future.result()

    def check(self) -> None:
        """Check that the files are those that were opened; until they are again, everything fails.

        Raises:
            FilesGone: They were removed, moved or replaced.
        """
        try:
            self._files.check()
        except FilesGone as error:
            if self._lost is None:
                logger.error("%s", error)  # noqa: TRY400 -- the traceback shows nothing
            self._lost, self._took = error, math.inf  # so that nothing is written where it was submitted
            raise
        self._lost = None

    def _refuse_lost(self) -> None:
        if self._lost is not None:
            raise self._lost

    def insist_open(self) -> None:
        """Open the file again in a forked child; elsewhere it is an error that it is not open."""
        if self._thread is None or self._pid != os.getpid():
            self._reopen()

    def _reopen(self) -> None:
        """Open the file again in a forked child; elsewhere it is an error that it is not open."""
        if self._pid and self._pid != os.getpid():
            self._lost = None
            self._opening, self._in_use = threading.Lock(), threading.Lock()  # the parent may have held them
            self.open()
            return
        msg = f"the storage {self.path} is not open"
        raise StorageError(msg)

    # -- on the thread ---------------------------------------------------------------------

    def _work(self, queue: SimpleQueue[list[_Item] | None], ready: Future[None]) -> None:
        try:
            with closing:
                files = Files(self.path)
                self._connection = connection = connect(self.path, self.synchronous, self.patience, self._commit)
                files.keep()
                self._files, self._lost = files, None
        except Exception as error:  # noqa: BLE001 -- handed to the caller
            ready.set_exception(error)
            return
        ready.set_result(None)
        items: list[_Item] | None
        stopping = False
        while not stopping:
            batch: list[_Item] = []
            items = queue.get()
            while True:
                if items is None:
                    stopping = True
                else:
                    batch += items
                try:
                    items = queue.get_nowait()
                except Empty:
                    break
            with self._in_use:
                results = self._carry_out(connection, batch, self.patience)
            deliver([(item.loop, item.future, result) for item, result in zip(batch, results, strict=True)])
            if self._written >= CHECKPOINT:
                self._checkpoint(connection)
        with self._in_use, closing:
            descriptors = files.release()
            connection.close()
            for fd in descriptors:
                os.close(fd)

    def _checkpoint(self, connection: sqlite3.Connection) -> None:
        with self._in_use, suppress(sqlite3.Error):  # a commit will do it some time, and say what is wrong
            connection.execute("pragma wal_checkpoint(passive)").fetchone()
        self._written = 0

    def _carry_out(self, connection: sqlite3.Connection, batch: Sequence[_Item], patience: float) -> list[Any]:
        """Return the results, or the errors, of *batch*."""
        try:
            self._refuse_lost()
            if len(batch) == 1 and (row := batch[0].row) is not None and self._add_one(connection, row, patience):
                return [row[2]]
            if not any(item.writes for item in batch):
                return [self._one(connection, item) for item in batch]
            return self._transaction(connection, batch, patience)
        except (StorageBusy, FilesGone) as error:
            return [error] * len(batch)
        except Exception as error:  # noqa: BLE001 -- handed to the caller
            if len(batch) == 1:
                return [explained(self.path, error) if isinstance(error, sqlite3.Error) else error]
        # One of them may be what fails: each gets a transaction of its own.
        return [result for item in batch for result in self._carry_out(connection, [item], patience)]

    def _add_one(self, connection: sqlite3.Connection, row: Row, patience: float) -> bool:
        """Write *row*, which is a transaction by itself; return whether anything was written."""
        started = time.perf_counter()
        statement, values, _ = row
        if not insist(self.path, partial(self._commit, connection, statement, values), patience):
            return False
        self._took = time.perf_counter() - started
        self._written += 1
        return True

    def _transaction(self, connection: sqlite3.Connection, batch: Sequence[_Item], patience: float) -> list[Any]:
        rows = [item.row for item in batch if item.row is not None]
        begin(self.path, connection, patience)
        started = time.perf_counter()
        before = connection.total_changes
        try:
            if len(rows) > 1 and _add(connection, rows):
                results = [_one(connection, item) if item.row is None else item.row[2] for item in batch]
            else:
                results = [_one(connection, item) for item in batch]
            if connection.total_changes != before:
                self.check()
                self._commit(connection)
            else:
                connection.execute("rollback")
        except BaseException:
            if connection.in_transaction:
                connection.execute("rollback")
            raise
        finally:
            self._took = time.perf_counter() - started
        self._written += len(batch)
        return results

    def write_by(self, connection: sqlite3.Connection, operation: Operation[T]) -> T:
        """Execute *operation* in a transaction of *connection*, on the caller's thread.

        Raises:
            StorageError: It could not be written.
        """
        try:
            begin(self.path, connection, self.patience)
            try:
                result = operation(connection)
                self._commit(connection)
            except BaseException:
                if connection.in_transaction:
                    connection.execute("rollback")
                raise
        except sqlite3.Error as error:
            raise explained(self.path, error) from error
        return result

    def _commit(self, connection: sqlite3.Connection, statement: str = "commit", values: tuple[Any, ...] = ()) -> bool:
        """Execute what commits; return whether anything was written. Tests count these, and die at them."""
        written = connection.execute(statement, values).rowcount != 0
        self.commits += written
        return written

    def _one(self, connection: sqlite3.Connection, item: _Item) -> Any:
        try:
            return item.operation(connection)
        except sqlite3.Error as error:
            return explained(self.path, error)
        except Exception as error:  # noqa: BLE001 -- handed to the caller
            return error


def _one(connection: sqlite3.Connection, item: _Item) -> Any:
    try:
        return item.operation(connection)
    except WorkflowError as error:
        return error


def _add(connection: sqlite3.Connection, rows: Sequence[Row]) -> bool:
    """Write *rows*, by one call for each statement; if one of them cannot be written, write none and return False."""
    connection.execute("savepoint rows")
    for wanted in dict.fromkeys(statement for statement, *_ in rows):
        values = [values for statement, values, _ in rows if statement is wanted]
        if connection.executemany(wanted, values).rowcount != len(values):
            connection.execute("rollback to rows")
            return False
    return True
