"""The pieces of end-to-end tests: a daemon, a stand-in LM server that counts its requests, ways to kill."""

import contextlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import dspex_actors as dspex
from dspex_actors.app import APP, PRELOAD, AppConfig
from supervisors.client.launch import launch
from supervisors.host import processes
from supervisors.host.node_config import NodeConfig

HERE = Path(__file__).parent
#: What the stand-in says: half of `tickets` have this label.
ANSWER = "[[ ## team ## ]]\nbilling\n\n[[ ## completed ## ]]"


def until(check, seconds=30.0, what="not in time"):
    """Poll until `check()` is truthy; return what it returned."""
    deadline = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < deadline, what() if callable(what) else what
        time.sleep(0.01)
    return value


def tickets(count):
    return [{"ticket": f"ticket {number}", "team": "billing" if number % 2 else "bugs"} for number in range(count)]


def triage():
    return dspex.Predict("ticket -> team")


def metric():
    return dspex.metrics.exact_match("team")


class LMServer:
    """A stand-in LM in a process of its own."""

    def __init__(self, *options):
        import warm  # scripts of tests import this file too, and find nothing beside its folder

        self._process = warm.Popen(
            [sys.executable, "-m", "dspex_actors.embedded", "--port", "0", *map(str, options)],
            stdout=subprocess.PIPE,
            text=True,
        )
        words = self._process.stdout.readline().split()
        self.url = words[words.index("openai") + 1]

    def stats(self):
        with urllib.request.urlopen(self.url.removesuffix("/v1") + "/stats", timeout=60) as answer:
            return json.load(answer)

    def booked(self):
        """Return a row per request, of a server that was started with --book."""
        with urllib.request.urlopen(self.url.removesuffix("/v1") + "/booked", timeout=60) as answer:
            return json.load(answer)

    @property
    def requests(self):
        return self.stats()["requests"]

    def lm(self, **settings):
        """Return an LM that asks it: each time anew, since most tests count what is asked."""
        return dspex.LM("openai/x", base_url=self.url, **{"cache": False, **settings})

    def close(self):
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


def lines(path):
    """Return how many lines a file has; one that is not there yet has none."""
    return len(path.read_text().splitlines()) if path.exists() else 0


class Host:
    """A host with a daemon over a data folder."""

    def __init__(self, home, workers=2, **app):
        self.home = Path(home)
        self.app = AppConfig(workers=workers, **app)
        self._daemon = None
        self._all = set()

    def start(self):
        config = NodeConfig(
            name="host",
            data_dir=str(self.home),
            app=APP,
            preload=list(PRELOAD),
            app_config=self.app.to_dict(),
        )
        self._daemon, _ = launch(config)
        return self

    def pids(self):
        found = [self._daemon.pid, *processes.descendants(self._daemon.pid)] if self._daemon.poll() is None else []
        self._all.update(found)
        return found

    def kill_everything(self):
        """SIGKILL every process of the node, daemon first."""
        pids = self.pids()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._daemon.wait()
        return pids

    def kill(self, what, node=None):
        while True:
            pid = self.pid_of(node, what)
            try:
                os.kill(pid, signal.SIGKILL)
                break
            except ProcessLookupError:  # it has just ended by itself, as runs do: whoever has its place now
                continue
        if pid == self._daemon.pid:
            self._daemon.wait()
        return pid

    def kills(self, what, node):
        """Whether there was one to kill."""
        try:
            return self.kill(what, node)
        except StopIteration:
            return False

    def pid_of(self, node, what):
        """Return the pid of a part of the node: a child's id, or root, admin, daemon."""
        if what == "daemon":
            return self._daemon.pid
        tree = node.tree()
        if what == "root":
            return tree["pid"]
        if what == "admin":
            return processes.process_table()[tree["pid"]]
        return next(row["pid"] for row in rows(tree) if str(row["id"]).startswith(what) and row["pid"])

    def close(self):
        if self._daemon is not None and self._daemon.poll() is None:
            pids = self.kill_everything()
            until(lambda: all(gone(pid) for pid in pids), what="processes of the node are left")


def rows(tree):
    """Give all rows of a supervision tree."""
    yield tree
    for child in tree["children"]:
        yield from rows(child)


def kill_part(node, victim):
    """Kill a part of a node with -9, as soon as it is there; one that the tree has not missed yet is no more."""

    def is_killed():
        found = [row["pid"] for row in rows(node.tree()) if str(row["id"]).startswith(victim) and row["pid"]]
        with contextlib.suppress(ProcessLookupError):
            for pid in found[:1]:
                os.kill(pid, signal.SIGKILL)
                return True
        return False

    until(is_killed)


def gone(pid):
    """Whether a process has ended (one that waits to be collected has)."""
    try:
        return processes.has_ended(pid, 0)
    except OSError:
        return True


class Answering:
    """A server that answers every request alike. `seen`: the headers of the requests, names in small letters."""

    def __init__(self, status, body):
        seen = self.seen = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                seen.append({name.lower(): value for name, value in self.headers.items()})
                answer = body(self.headers) if callable(body) else body
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self):
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __exit__(self, *error):
        self._server.shutdown()
        self._server.server_close()


class Background:
    """A call in a thread; `result` gives what it returned, or raises."""

    def __init__(self, function, *args, **kwargs):
        self._outcome = None
        self.done_at = None

        def work():
            try:
                self._outcome = (function(*args, **kwargs), None)
            except BaseException as error:
                self._outcome = (None, error)
            self.done_at = time.monotonic()

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    @property
    def alive(self):
        return self._thread.is_alive()

    def result(self, seconds=60.0):
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "the call has not returned"
        value, error = self._outcome
        if error is not None:
            raise error
        return value


def check_whole(result, count):
    """Every example has its result, exactly once, in input order."""
    assert result.n == count
    assert [one.index for one in result.results] == list(range(count))
    assert [one.example.ticket for one in result.results] == [f"ticket {number}" for number in range(count)]


def run_script(text, *args, env=None, **options):
    """Start a Python program of its own; its standard output can be read."""
    import warm

    return warm.Popen(
        [sys.executable, "-c", text, *map(str, args)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=HERE,
        env=os.environ | (env or {}),
        **options,
    )
