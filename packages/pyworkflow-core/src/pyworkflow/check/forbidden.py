"""The names of the standard library, and of well-known packages, that workflows must not use."""

from __future__ import annotations

import ast


def _words(text: str) -> list[str]:
    return text.split()


_NAMES: dict[str, dict[str, str]] = {
    "PW101": {
        "arrow": "get now utcnow",
        "datetime.date": "today",
        "datetime.datetime": "now today utcnow",
        "django.utils.timezone": "localdate localtime now",
        "pendulum": "now today tomorrow yesterday",
        "time": "clock_gettime clock_gettime_ns monotonic monotonic_ns perf_counter perf_counter_ns process_time "
        "process_time_ns thread_time thread_time_ns time time_ns asctime ctime gmtime localtime strftime",
    },
    "PW102": {"os": "getrandom urandom"},
    "PW103": {"uuid": "getnode uuid1 uuid4 uuid6 uuid7"},
    "PW104": {"time": "sleep"},
    "PW105": {
        "getpass": "getuser",
        "os": "cpu_count environ environb getcwd getenv getenvb getlogin getpgid getpid getppid getuid uname",
        "pathlib.Path": "cwd home",
        "platform": "machine node platform processor release system uname version",
        "socket": "getfqdn gethostname",
        "sys": "argv executable",
    },
    "PW106": {"builtins": "hash id"},
    "PW201": {
        "aiosqlite": "connect",
        "builtins": "input open",
        "codecs": "open",
        "getpass": "getpass",
        "glob": "glob iglob",
        "io": "open",
        "os": "chdir chmod chown fdopen fwalk link listdir makedirs mkdir open read readlink remove removedirs rename "
        "renames replace rmdir scandir stat statvfs symlink truncate unlink utime walk write",
        "os.path": "exists getatime getctime getmtime getsize isdir isfile islink ismount lexists realpath samefile",
        "sqlite3": "connect",
        "sys": "stdin",
    },
    "PW202": {
        "asyncio": "open_connection open_unix_connection start_server start_unix_server",
        "asyncpg": "connect create_pool",
        "boto3": "Session client resource",
        "boto3.session": "Session",
        "grpc": "insecure_channel secure_channel",
        "grpc.aio": "insecure_channel secure_channel",
        "psycopg": "connect",
        "psycopg2": "connect",
        "sqlalchemy": "create_engine",
        "sqlalchemy.ext.asyncio": "create_async_engine",
    },
    "PW203": {
        "asyncio": "create_subprocess_exec create_subprocess_shell",
        "os": "abort execl execle execlp execlpe execv execve execvp execvpe fork forkpty kill killpg popen "
        "posix_spawn posix_spawnp spawnl spawnle spawnlp spawnlpe spawnv spawnve spawnvp spawnvpe startfile system "
        "wait waitpid",
    },
    "PW204": {
        "anyio": "run_process",
        "anyio.to_process": "run_sync",
        "anyio.to_thread": "run_sync",
        "asgiref.sync": "sync_to_async",
        "asyncio": "run_coroutine_threadsafe to_thread",
    },
}

FORBIDDEN: dict[str, str] = {
    f"{module}.{name}": rule
    for rule, modules in _NAMES.items()
    for module, names in modules.items()
    for name in _words(names)
}
"""Rules by what breaks them, even if it is only mentioned: ``sorted(items, key=id)``."""

_MODULES: dict[str, str] = {
    "PW102": "numpy.random random secrets",
    "PW201": "shutil tempfile",
    "PW202": "aiohttp ftplib http.client httpx imaplib paramiko poplib pymongo redis requests smtplib socket "
    "urllib.request urllib3 websockets xmlrpc.client",
    "PW203": "subprocess",
    "PW204": "_thread concurrent.futures multiprocessing threading",
}

MODULES: dict[str, str] = {name: rule for rule, names in _MODULES.items() for name in _words(names)}
"""Rules by the module whose functions, and classes where they are called, break them."""

_HARMLESS = frozenset(
    _words(
        "concurrent.futures.Future httpx.Headers httpx.Limits httpx.QueryParams httpx.Request httpx.Timeout httpx.URL "
        "httpx.codes requests.Request requests.codes secrets.compare_digest socket.inet_aton socket.inet_ntoa "
        "urllib.request.Request"
    )
)

_CLASSES = frozenset({"socket.error", "socket.socket", "threading.local"})
"""Classes whose names look like those of functions."""

_WITHOUT = {
    "numpy.random.default_rng": 1,
    "random.Random": 1,
    "time.asctime": 1,
    "time.ctime": 1,
    "time.gmtime": 1,
    "time.localtime": 1,
    "time.strftime": 2,
}
"""How many arguments make it harmless: a seed, or a time of the caller's."""

METHODS = {
    "run_in_executor": "PW204",
    "read_bytes": "PW201",
    "read_text": "PW201",
    "write_bytes": "PW201",
    "write_text": "PW201",
}
"""Rules by a method that says enough, whatever it is called on."""

PATH_METHODS = frozenset(
    _words(
        "absolute chmod exists expanduser glob group hardlink_to is_dir is_file is_mount is_symlink iterdir lchmod "
        "lstat mkdir open owner readlink rename replace resolve rglob rmdir samefile stat symlink_to touch unlink walk"
    )
)
"""Methods of a path that ask the file system."""

MUTATORS = frozenset(
    _words(
        "add append appendleft clear discard difference_update extend extendleft insert intersection_update "
        "move_to_end pop popitem popleft remove reverse rotate setdefault sort subtract "
        "symmetric_difference_update update"
    )
)
"""Methods that change a list, dict, set or deque."""


def broken_by(name: str, call: ast.Call | None) -> tuple[str, str] | None:
    """Return the rule that a dotted name breaks, and the part of the name that does.

    Args:
        name: Such as ``os.environ.get``.
        call: The call, where it is called and not only mentioned.
    """
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        part = ".".join(parts[:end])
        rule = FORBIDDEN.get(part) or (_by_module(name, call) if part == name else None)
        if rule is not None:
            if call is not None and len(call.args) + len(call.keywords) >= _WITHOUT.get(part, 1_000):
                return None
            return rule, part
    return None


def _by_module(name: str, call: ast.Call | None) -> str | None:
    module, _, last = name.rpartition(".")
    while module:
        if module in MODULES and not any(f"{name}.".startswith(f"{harmless}.") for harmless in _HARMLESS):
            # A class may stand in an annotation or an except clause, a constant anywhere.
            harmless = call is None if last[:1].isupper() or name in _CLASSES else last.isupper()
            raised = last.endswith(("Error", "Exception", "Expired", "Timeout", "Warning", "Broken"))
            return None if harmless or raised or last.startswith("_") else MODULES[module]
        module = module.rpartition(".")[0]
    return None
