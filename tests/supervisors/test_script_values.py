"""What a script holds at its top level can be used by its servers: each thing is made anew where the code arrives."""

import subprocess
import sys

import pytest

HELPER = """
import threading
import other_half

LOCK = threading.Lock()

def go():
    with LOCK:
        return __name__
"""
OTHER_HALF = """
import helper_of_script

def back():
    return helper_of_script.go()
"""
SCRIPT = """
import concurrent.futures, contextvars, functools, queue, sys, threading, weakref

import helper_of_script
from supervisors.wire import pickles

LOCK, RLOCK, CONDITION, EVENT = threading.Lock(), threading.RLock(), threading.Condition(), threading.Event()
SEMAPHORE, LOCAL, QUEUE, KNOWN = threading.Semaphore(2), threading.local(), queue.Queue(), weakref.WeakValueDictionary()
VARIABLE = contextvars.ContextVar("VARIABLE", default="set by nobody")
BARE = contextvars.ContextVar("BARE")

class Own(threading.local):
    def __init__(self):
        self.count = 3

OWN = Own()

class Holder:
    def __init__(self):
        self.lock = LOCK

HOLDER = Holder()

class Slots:
    __slots__ = ("a", "__b", "__weakref__")

    def __init__(self):
        self.a, self.__b = 1, 2

    def sum(self):
        return self.a + self.__b

class More(Slots):
    __slots__ = "c"

    def sum(self):
        return super().sum() + self.c

@functools.cache
def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

@functools.singledispatch
def kind(value):
    return "object"

@kind.register
def _(value: int):
    return "int"

class Lazy:
    @functools.cached_property
    def value(self):
        return [1]

    @functools.lru_cache
    def twice(self, n):
        return 2 * n

    @functools.singledispatchmethod
    def kind(self, value):
        return "object"

    @kind.register
    def _(self, value: str):
        return "str"

def locks():
    with LOCK, RLOCK, CONDITION, SEMAPHORE:
        EVENT.set()
    QUEUE.put(1)
    LOCAL.x = 1
    return LOCK, HOLDER.lock

def same_lock():
    return LOCK

def check():
    first, second = locks()
    assert first is second is same_lock()
    assert not first.locked()
    assert OWN.count == 3
    assert not KNOWN
    assert VARIABLE.get() == "set by nobody"
    try:
        BARE.get()
        raise AssertionError("BARE has no default")
    except LookupError:
        pass
    more = More()
    more.c = 3
    assert more.sum() == 6
    assert not hasattr(more, "__dict__")
    assert fibonacci(30) == 832040
    assert fibonacci.cache_info().currsize == 31
    lazy = Lazy()
    assert lazy.value is lazy.value
    assert (kind(1), kind(""), lazy.kind(""), lazy.twice(4)) == ("int", "object", "str", 8)
    assert helper_of_script.go() == helper_of_script.other_half.back() == "helper_of_script"
    return "all is well"

if __name__ == "__main__":
    LOCK.acquire()
    fibonacci(5)
    sys.stdout.buffer.write(pickles.dumps(check))
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    folder = tmp_path_factory.mktemp("script")
    (folder / "helper_of_script.py").write_text(HELPER)
    (folder / "other_half.py").write_text(OTHER_HALF)
    (folder / "script.py").write_text(SCRIPT)
    return folder / "script.py"


def test_what_a_script_holds_is_made_anew(script, tmp_path):
    sent = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, timeout=60, check=True).stdout
    opened = "import pickle, sys; print(pickle.loads(sys.stdin.buffer.read())())"
    done = subprocess.run(
        [sys.executable, "-c", opened], input=sent, cwd=tmp_path, capture_output=True, timeout=60, check=False
    )
    assert done.stdout.decode() == "all is well\n", done.stderr.decode()


def test_a_module_beside_the_script_is_not_the_installed_one_of_its_name(tmp_path):
    (tmp_path / "tomllib.py").write_text("def mine():\n    return 'mine'\n")
    (tmp_path / "idna.py").write_text("def mine():\n    return 'mine'\n")
    (tmp_path / "main.py").write_text(
        "import tomllib, idna, json, supervisors\n"
        "from supervisors.wire.pickles import travels_by_value as by\n"
        "print([by(each) for each in (tomllib, idna, json, supervisors)])\n"
    )
    done = subprocess.run(
        [sys.executable, tmp_path / "main.py"], cwd="/", capture_output=True, timeout=60, check=True, text=True
    )
    assert done.stdout == "[True, True, False, False]\n"


POOL_SCRIPT = """
import multiprocessing, sys, threading
from concurrent.futures import ProcessPoolExecutor

from supervisors import ChildSpec, GenServer, Node, SupervisorSpec

LOCK = threading.Lock()

class Point:
    def __init__(self, x):
        self.x = x

def double(point):
    with LOCK:
        return Point(2 * point.x)

class Server(GenServer):
    def handle_call(self, request, caller):
        context = multiprocessing.get_context(request)
        with LOCK, ProcessPoolExecutor(1, mp_context=context) as pool:
            pass
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            return pool.submit(double, Point(4)).result(50).x

if __name__ == "__main__":
    with Node.start() as node:
        node.start_supervisor(SupervisorSpec([ChildSpec("s", Server, name="s")]))
        print([node.call("s", how, timeout=60) for how in ("fork", "spawn")])
"""


def test_a_function_of_the_script_in_a_servers_process_pool(tmp_path):
    (tmp_path / "pools.py").write_text(POOL_SCRIPT)
    done = subprocess.run(
        [sys.executable, tmp_path / "pools.py"], cwd="/", capture_output=True, timeout=120, check=False, text=True
    )
    assert done.stdout == "[8, 8]\n", done.stderr
