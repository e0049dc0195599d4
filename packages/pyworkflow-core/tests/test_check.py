import inspect
import textwrap

import pytest

import pyworkflow
from pyworkflow.check import RULES, check
from pyworkflow.check.program import API

TOP = """
import asyncio
import collections
import concurrent.futures
import datetime as dt
import functools
import glob
import hashlib
import itertools
import json
import math
import multiprocessing
import os
import os.path
import pathlib
import platform
import random
import secrets
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
import uuid
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random, choice
from time import monotonic as tick
from uuid import uuid4

import httpx
import numpy as np
import requests

import pyworkflow
from pyworkflow import now, sleep, step, workflow

CACHE = {}
SEEN = set()
NAMES = {"a", "b"}
ORDER = ["a", "b"]
COUNTER = itertools.count()
TOTAL = 0

@step
async def charge(order): ...

@step(retries=5)
def pack(item): ...

@workflow
async def child(order): ...
"""


@pytest.fixture
def found(tmp_path):
    def look(source, **options):
        path = tmp_path / "flows.py"
        path.write_text(textwrap.dedent(source))
        result = check([str(path)], **options)
        return [f"{finding.line}:{finding.column} {finding.rule}" for finding in result.findings]

    return look


@pytest.fixture
def rules_in(tmp_path):
    def look(body, name="flows.py"):
        path = tmp_path / name
        path.write_text(f"{TOP}\n\n@workflow\nasync def main(order, items, log):\n{textwrap.indent(body, '    ')}\n")
        return [finding.rule for finding in check([str(path)]).findings]

    return look


BROKEN = [
    # the clock
    ("datetime.now()", "PW101"),
    ("datetime.now(UTC)", "PW101"),
    ("datetime.now(tz=UTC).date()", "PW101"),
    ("datetime.utcnow()", "PW101"),
    ("datetime.today()", "PW101"),
    ("date.today()", "PW101"),
    ("dt.datetime.now()", "PW101"),
    ("dt.date.today()", "PW101"),
    ("time.time()", "PW101"),
    ("time.time_ns()", "PW101"),
    ("time.monotonic()", "PW101"),
    ("time.perf_counter()", "PW101"),
    ("tick()", "PW101"),
    ("time.strftime('%Y')", "PW101"),
    ("time.localtime()", "PW101"),
    ("clock = time.time", "PW101"),
    ("x = dict(at=datetime.now)", "PW101"),
    # chance
    ("random.random()", "PW102"),
    ("random.shuffle(items)", "PW102"),
    ("random.seed(1)", "PW102"),
    ("choice(items)", "PW102"),
    ("Random()", "PW102"),
    ("random.SystemRandom()", "PW102"),
    ("secrets.token_hex()", "PW102"),
    ("os.urandom(8)", "PW102"),
    ("np.random.rand(3)", "PW102"),
    ("np.random.default_rng()", "PW102"),
    ("sorted(items, key=lambda item: random.random())", "PW102"),
    # ids
    ("uuid.uuid4()", "PW103"),
    ("uuid.uuid1()", "PW103"),
    ("str(uuid4())", "PW103"),
    ("collections.defaultdict(uuid4)", "PW103"),
    # sleep
    ("time.sleep(1)", "PW104"),
    # the process
    ("os.environ['HOME']", "PW105"),
    ("os.environ.get('HOME')", "PW105"),
    ("os.getenv('HOME')", "PW105"),
    ("'DEBUG' in os.environ", "PW105"),
    ("os.getpid()", "PW105"),
    ("os.getcwd()", "PW105"),
    ("Path.cwd()", "PW105"),
    ("socket.gethostname()", "PW105"),
    ("platform.node()", "PW105"),
    ("sys.argv[1]", "PW105"),
    # identity
    ("id(order)", "PW106"),
    ("hash(order)", "PW106"),
    ("sorted(items, key=id)", "PW106"),
    # files
    ("open('x')", "PW201"),
    ("with open('x') as file:\n    pass", "PW201"),
    ("Path('x').read_text()", "PW201"),
    ("order.path.write_text('x')", "PW201"),
    ("Path('x').exists()", "PW201"),
    ("(Path('x') / 'y').mkdir()", "PW201"),
    ("place = pathlib.Path('x')\nplace.unlink()", "PW201"),
    ("def inner(place: Path):\n    return place.stat()", "PW201"),
    ("os.listdir('.')", "PW201"),
    ("os.path.exists('x')", "PW201"),
    ("glob.glob('*')", "PW201"),
    ("shutil.rmtree('x')", "PW201"),
    ("tempfile.mkdtemp()", "PW201"),
    ("tempfile.TemporaryDirectory()", "PW201"),
    ("sqlite3.connect('x')", "PW201"),
    ("input()", "PW201"),
    # the network
    ("requests.get('x')", "PW202"),
    ("requests.Session()", "PW202"),
    ("async with httpx.AsyncClient() as client:\n    await client.get('x')", "PW202"),
    ("await asyncio.gather(*map(httpx.get, items))", "PW202"),
    ("urllib.request.urlopen('x')", "PW202"),
    ("socket.create_connection(('x', 1))", "PW202"),
    ("socket.socket(socket.AF_INET)", "PW202"),
    ("await asyncio.open_connection('x', 1)", "PW202"),
    ("import smtplib\nsmtplib.SMTP('x')", "PW202"),
    ("from urllib.request import urlopen\nurlopen('x')", "PW202"),
    # other processes
    ("subprocess.run(['x'])", "PW203"),
    ("subprocess.Popen(['x'])", "PW203"),
    ("os.system('x')", "PW203"),
    ("os.fork()", "PW203"),
    ("os.kill(1, 9)", "PW203"),
    ("await asyncio.create_subprocess_exec('x')", "PW203"),
    # threads
    ("threading.Thread(target=print).start()", "PW204"),
    ("threading.Lock()", "PW204"),
    ("multiprocessing.Pool()", "PW204"),
    ("concurrent.futures.ThreadPoolExecutor()", "PW204"),
    ("from concurrent.futures import ProcessPoolExecutor\nProcessPoolExecutor()", "PW204"),
    ("await asyncio.to_thread(print)", "PW204"),
    ("asyncio.get_running_loop().run_in_executor(None, print)", "PW204"),
    # sets
    ("for x in {1, 2}:\n    pass", "PW302"),
    ("for x in set(items):\n    pass", "PW302"),
    ("for x in {len(i) for i in items}:\n    pass", "PW302"),
    ("for x in NAMES:\n    pass", "PW302"),
    ("for x in NAMES - {'a'}:\n    pass", "PW302"),
    ("for x in set(items).union(order):\n    pass", "PW302"),
    ("for x in {}.keys() & items:\n    pass", "PW302"),
    ("for i, x in enumerate(NAMES):\n    pass", "PW302"),
    ("names = frozenset(items)\nreturn list(names)", "PW302"),
    ("names: set[str] = order.names\nreturn list(names)", "PW302"),
    ("def inner(names: 'frozenset[str]'):\n    return [name for name in names]", "PW302"),
    ("names = set()\nnames |= {1}\nreturn tuple(names)", "PW302"),
    ("[x for x in NAMES]", "PW302"),
    ("{x: 1 for x in NAMES}", "PW302"),
    ("', '.join(NAMES)", "PW302"),
    ("', '.join(x for x in NAMES)", "PW302"),
    ("first = next(iter(NAMES))", "PW302"),
    ("a, b = NAMES", "PW302"),
    ("[*NAMES]", "PW302"),
    ("print(*NAMES)", "PW302"),
    ("set(items).pop()", "PW302"),
    ("dict.fromkeys(NAMES)", "PW302"),
    ("await asyncio.gather(*(charge(x) for x in NAMES))", "PW302"),
    ("await asyncio.gather(*map(charge, NAMES))", "PW302"),
    ("sum([await charge(x) for x in NAMES])", "PW302"),
    ("{await charge(x) for x in NAMES}", "PW302"),
    # state beyond the run
    ("global TOTAL\nTOTAL += 1", "PW401"),
    ("CACHE[order] = 1", "PW401"),
    ("del CACHE[order]", "PW401"),
    ("CACHE.update(a=1)", "PW401"),
    ("CACHE['x'].setdefault(1, 2)", "PW401"),
    ("SEEN.add(order)", "PW401"),
    ("ORDER.append(order)", "PW401"),
    ("pyworkflow.setting = 1", "PW401"),
    ("charge.calls = 1", "PW401"),
    ("next(COUNTER)", "PW401"),
    ("global UNHEARD_OF\nUNHEARD_OF = 1", "PW401"),
    # not awaited
    ("charge(order)", "PW402"),
    ("pack(1)", "PW402"),
    ("child(order)", "PW402"),
    ("sleep('1h')", "PW402"),
    ("pyworkflow.sleep(1)", "PW402"),
    ("pyworkflow.continue_as_new()", "PW402"),
    ("asyncio.sleep(1)", "PW402"),
    ("async def inner(): ...\ninner()", "PW402"),
    ("if order:\n    charge(order)", "PW402"),
]

FINE = [
    "pyworkflow.now()",
    "now() - timedelta(days=1)",
    "pyworkflow.random()",
    "pyworkflow.uuid4()",
    "await asyncio.sleep(1)",
    "await sleep('1h')",
    "async with asyncio.timeout(1):\n    await charge(order)",
    "await asyncio.wait_for(charge(order), 1)",
    "done, pending = await pyworkflow.wait(items)",
    "for item in pyworkflow.as_completed(items):\n    await item",
    "for item in asyncio.as_completed(items):\n    await item",
    "await asyncio.wait(items)",
    "asyncio.get_running_loop().time()",
    "asyncio.Lock(), asyncio.Queue(), asyncio.Event()",
    "datetime(2026, 1, 1, tzinfo=UTC)",
    "datetime.fromtimestamp(0, UTC)",
    "datetime.combine(date(2026, 1, 1), dt.time())",
    "time.gmtime(0), time.strftime('%Y', time.gmtime(0))",
    "Random(42).random()",
    "np.random.default_rng(1)",
    "np.array(items)",
    "uuid.uuid5(uuid.NAMESPACE_DNS, order)",
    "uuid.UUID(order)",
    "hashlib.sha256(b'x').hexdigest()",
    "json.dumps(order), math.floor(1.5)",
    "Path('x') / 'y', Path('x').name, Path('x').parent.suffix",
    "os.path.join('a', 'b'), os.sep",
    "urllib.parse.quote('x')",
    "x: requests.Response = await charge(order)",
    "httpx.URL('x'), httpx.codes.OK",
    "try:\n    pass\nexcept (requests.exceptions.HTTPError, socket.timeout, subprocess.CalledProcessError):\n    pass",
    "isinstance(order, socket.socket)",
    "raise requests.HTTPError('x')",
    "socket.AF_INET, subprocess.PIPE",
    "task = asyncio.create_task(charge(order))\nawait task",
    "a = charge(1)\nb = charge(2)\nawait asyncio.gather(a, b)",
    "async with asyncio.TaskGroup() as group:\n    group.create_task(charge(order))",
    "await child(order)",
    "items.append(order), order.update(a=1), log.add(1)",
    "CACHE = {}\nCACHE[1] = 2",
    "ORDER = []\nORDER.append(1)",
    "CACHE.get(order), CACHE[order], 'a' in NAMES, len(SEEN)",
    "total = 0\ndef inner():\n    nonlocal total\n    total += 1\ninner()",
    "done = []\nasync def inner():\n    done.append(await charge(1))\nawait inner()",
    "global TOTAL\nprint(TOTAL)",
    "order.state = 1",
    "numbers = iter(items)\nnext(numbers)",
    "for x in sorted(NAMES):\n    pass",
    "for x in sorted(set(items) - NAMES, key=len):\n    pass",
    "sorted(x.upper() for x in NAMES), max(NAMES), len({1}), sum(len(x) for x in NAMES), any(x for x in NAMES)",
    "sorted(list(NAMES)), sorted([x for x in NAMES]), set(map(str, NAMES))",
    "{x.upper() for x in NAMES}, {*NAMES, 'c'}, NAMES | {'c'}, frozenset(NAMES)",
    "for x in {'a': 1}:\n    pass",
    "for x in dict.fromkeys(items):\n    pass",
    "names = set(items)\nnames = sorted(names)\nfor x in names:\n    pass",
    "', '.join(ORDER), os.path.join(*ORDER)",
    "def id(x): return x\nid(order)",
    "open = order.open\nopen('x')",
    "hash = 1\nhash",
    "random = Random(1)\nrandom.random()",
    "for time in items:\n    time.time()",
    "print('x')",
    "x = 'datetime.now()'  # datetime.now()",
    "functools.partial(charge, order)",
    "@step\nasync def inner():\n    return datetime.now()\nawait inner()",
    "match order:\n    case {'time': time, **random}:\n        time.time(), random.random()",
    "with order.lock as os:\n    os.getpid()",
]


@pytest.mark.parametrize("body, rule", BROKEN, ids=[body for body, _ in BROKEN])
def test_this_breaks_one_rule(rules_in, body, rule):
    assert rules_in(body) == [rule]


@pytest.mark.parametrize("body", FINE, ids=FINE)
def test_this_breaks_none(rules_in, body):
    assert rules_in(body) == []


def test_every_rule_but_that_of_unreadable_files_is_in_the_table():
    assert {rule for _, rule in BROKEN} == set(RULES) - {"PW001"}


@pytest.mark.parametrize("body", [body for body, _ in BROKEN if "await" not in body and "return" not in body])
@pytest.mark.parametrize(
    "decorators", ["@step", "@pyworkflow.step(retries=3)", ""], ids=["step", "with options", "none"]
)
def test_steps_and_functions_that_no_workflow_uses_may_do_all_of_it(tmp_path, decorators, body):
    path = tmp_path / "flows.py"
    path.write_text(f"{TOP}\n{decorators}\ndef anything(order, items):\n{textwrap.indent(body, '    ')}\n")
    assert check([str(path)]).findings == ()


@pytest.mark.parametrize(
    "head",
    [
        "from pyworkflow import workflow\n@workflow",
        "from pyworkflow import workflow\n@workflow()",
        "from pyworkflow import workflow\n@workflow(durable=True, name='x')",
        "from pyworkflow import workflow as flow\n@flow(durable=True)",
        "import pyworkflow\n@pyworkflow.workflow",
        "import pyworkflow as pw\n@pw.workflow(durable=True)",
        "from pyworkflow import *\n@workflow",
        "from pyworkflow.decorators import workflow\n@workflow",
        "import pyworkflow.decorators\n@pyworkflow.decorators.workflow",
        "import pyworkflow\nflow = pyworkflow.workflow\n@flow",
        "import pyworkflow\ndurable = pyworkflow.workflow(durable=True)\n@durable",
        "import pyworkflow, functools\n@functools.cache\n@pyworkflow.workflow",
        "try:\n    from pyworkflow import workflow\nexcept ImportError:\n    workflow = None\n@workflow",
    ],
)
def test_a_workflow_is_known_by_its_decorator_however_that_is_called(found, head):
    source = f"import time\n{head}\nasync def main():\n    time.time()\n"
    assert found(source) == [f"{len(source.splitlines())}:5 PW101"]


@pytest.mark.parametrize(
    "head",
    [
        "from other import workflow\n@workflow",
        "def workflow(f): return f\n@workflow",
        "import other as pyworkflow\n@pyworkflow.workflow",
    ],
)
def test_a_decorator_of_the_same_name_that_is_not_ours_makes_no_workflow(found, head):
    assert found(f"import time\n{head}\nasync def main():\n    time.time()\n") == []


def test_what_of_the_package_has_to_be_awaited_is_known():
    public = {name: getattr(pyworkflow, name) for name in pyworkflow.__all__}
    assert {name for name, value in public.items() if inspect.iscoroutinefunction(value)} == API


def test_a_function_that_is_made_a_workflow_by_a_call_is_one(found):
    source = """
    import time
    from pyworkflow import workflow
    async def main():
        time.time()
    flow = workflow(main)
    other = workflow(durable=True)(main)
    """
    assert found(source) == ["5:5 PW101"]


def test_a_step_that_is_made_by_a_call_has_to_be_awaited(found):
    source = """
    from pyworkflow import step, workflow
    def _charge(): open("x")
    charge = step(_charge)
    pack = step(retries=1)(_charge)
    @workflow
    async def main():
        charge()
        pack()
        await charge()
    """
    assert found(source) == ["8:5 PW402", "9:5 PW402"]


def test_a_workflow_within_a_function_is_checked_among_its_names(found):
    source = """
    import time
    from pyworkflow import workflow
    def make(log):
        calls = []
        @workflow
        async def main():
            calls.append(1)
            time.time()
        return main
    """
    assert found(source) == ["8:9 PW401", "9:9 PW101"]


def test_functions_that_a_workflow_uses_are_followed(tmp_path):
    path = tmp_path / "flows.py"
    path.write_text(
        textwrap.dedent("""
        import time
        from pyworkflow import workflow
        def stamp(): return clock()
        def clock(): return time.time()
        def unused(): return time.time()
        @workflow
        async def main(): return stamp()
        @workflow
        async def other(): return clock()
        """)
    )
    (finding,) = check([str(path)]).findings
    assert (finding.line, finding.rule, finding.workflow) == (5, "PW101", "main")
    assert finding.message.endswith("(workflow 'main' gets here by stamp() > clock())")


def test_a_function_is_followed_where_it_is_handed_on(found):
    source = """
    import time
    from pyworkflow import workflow
    def stamp(x): return time.time()
    @workflow
    async def main(items): return list(map(stamp, items))
    """
    assert found(source) == ["4:22 PW101"]


def test_functions_that_call_each_other_are_followed_once(found):
    source = """
    import time
    from pyworkflow import workflow
    def a(n): return b(n)
    def b(n): return a(time.time())
    @workflow
    async def main(): return a(1)
    """
    assert found(source) == ["5:20 PW101"]


def test_steps_and_workflows_are_not_followed(found):
    source = """
    import time
    from pyworkflow import step, workflow
    @step
    def stamp(): return clock()
    def clock(): return time.time()
    @workflow
    async def main(): return await stamp()
    """
    assert found(source) == []


def test_a_helper_may_keep_variables_but_not_change_those_of_its_module(found):
    source = """
    from pyworkflow import workflow
    STATE = {}
    def note(x):
        seen = {}
        seen[x] = 1
        STATE[x] = 1
    @workflow
    async def main(): note(1)
    """
    assert found(source) == ["7:5 PW401"]


def test_steps_of_other_checked_modules_have_to_be_awaited(tmp_path):
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("from .steps import pack\n")
    (package / "steps.py").write_text("from pyworkflow import step\n@step\ndef charge(): ...\n@step\ndef pack(): ...\n")
    (package / "flows.py").write_text(
        "import shop\nimport shop.steps\nfrom . import steps\nfrom .steps import charge as take, helper\n"
        "from pyworkflow import workflow\n@workflow\nasync def main():\n"
        "    steps.charge()\n    take()\n    shop.steps.charge()\n    shop.pack()\n    helper()\n    await take()\n"
    )
    result = check([str(package)])
    assert [(finding.line, finding.rule) for finding in result.findings] == [(line, "PW402") for line in (8, 9, 10, 11)]
    assert (result.files, result.workflows) == (3, 1)


def test_star_imports_of_modules_are_seen_through(found):
    source = """
    from pyworkflow import *
    from time import *
    @workflow
    async def main():
        time()
        sleep(1)
    """
    assert found(source) == ["6:5 PW101", "7:5 PW402"]


def test_a_column_counts_characters(found):
    source = 'import time\nfrom pyworkflow import workflow\n@workflow\nasync def main(): return "üñ", time.time()\n'
    assert found(source) == ["4:32 PW101"]


@pytest.mark.parametrize(
    "comment, left",
    [
        ("# noqa", []),
        ("# NOQA", []),
        ("#noqa", []),
        ("# noqa: PW101", []),
        ("# noqa:PW101", []),
        ("# noqa: pw101", []),
        ("# noqa: E501, PW101 -- shown only", []),
        ("# noqa: PW103 PW101", []),
        ("# a reason # noqa: PW101", []),
        ("# noqa: PW102", ["PW101"]),
        ("# noqa: E501", ["PW101"]),
        ("# noqa: PW10", ["PW101"]),
        ("# noqaPW101", ["PW101"]),
        ("; '# noqa'", ["PW101"]),
    ],
)
def test_a_line_makes_exceptions_by_a_comment(rules_in, comment, left):
    assert rules_in(f"time.time()  {comment}") == left


@pytest.mark.parametrize("line", [0, 2])
def test_an_exception_stands_on_the_first_or_the_last_line_of_the_code(rules_in, line):
    lines = ["datetime.now(", "    UTC", ")"]
    lines[line] += "  # noqa: PW101"
    assert rules_in("\n".join(lines)) == []


def test_select_and_ignore_take_ids_and_what_they_begin_with(found):
    source = """
    import time
    from pyworkflow import workflow
    @workflow
    async def main(x):
        time.time(); id(x); open("x"); time.sleep(1)
    """
    rules = lambda **options: [finding.split()[1] for finding in found(source, **options)]  # noqa: E731
    assert rules() == ["PW101", "PW106", "PW201", "PW104"]
    assert rules(select=["PW10"]) == ["PW101", "PW106", "PW104"]
    assert rules(select=["pw201", "PW106"]) == ["PW106", "PW201"]
    assert rules(ignore=["PW2", "PW101"]) == ["PW106", "PW104"]
    assert rules(select=["PW10"], ignore=["PW101"]) == ["PW106", "PW104"]


@pytest.mark.parametrize(
    "content, said",
    [
        (b"def (:\n", "cannot be checked"),
        (b"x = 1\n\x00", "cannot be checked"),
        (b"x = '\xff'\n", "cannot be checked"),
        (b"x = " + b"-" * 3_000 + b"1\n", "nested too deeply"),
        (b"x = " + b"+".join([b"1"] * 2_000) + b"\n", "nested too deeply"),
    ],
    ids=["syntax", "NUL", "encoding", "deep", "long"],
)
def test_a_file_that_cannot_be_read_is_a_finding_and_hides_no_other(tmp_path, content, said):
    (tmp_path / "a.py").write_bytes(content)
    (tmp_path / "b.py").write_text(
        "import time\nfrom pyworkflow import workflow\n@workflow\nasync def f(): time.time()\n"
    )
    first, second = check([str(tmp_path)]).findings
    assert (first.rule, second.rule) == ("PW001", "PW101")
    assert said in first.message


def test_what_is_at_fault_is_shown_as_it_is_written(tmp_path):
    path = tmp_path / "flows.py"
    path.write_text(
        "from datetime import datetime as when\nfrom pyworkflow import workflow\nimport os\n"
        "from os import environ as env\n@workflow\nasync def main(x):\n"
        "    when.now()\n    os.environ.get('A')\n    env['A']\n    sorted(x, key=id)\n"
    )
    assert [finding.message.partition(" ")[0] for finding in check([str(path)]).findings] == [
        "when.now()",
        "os.environ",
        "env",
        "id",
    ]


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_rule_says_what_to_do_instead(rule):
    assert rule.id == "PW001" or "; " in rule.text
