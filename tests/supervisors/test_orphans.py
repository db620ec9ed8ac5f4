"""Orphans are found on kernels that do not list the children of a process, too; without a look at every process."""

import subprocess
import sys

#: Becomes the parent of what loses its own, knows a process as another's child, and finds it when that has ended.
SCRIPT = """
import os, subprocess
from supervisors.host import processes, strays
from supervisors.testing import wait_until
strays._children = lambda: None
processes.adopt_orphans()
shell = subprocess.Popen(["sh", "-c", "sleep 600 & echo $!; read line"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
orphan = int(shell.stdout.readline())
orphans, asked = strays.Orphans(), []
parent_of = processes.parent_of
processes.parent_of = lambda pid: asked.append(pid) or parent_of(pid)
orphans.end(spared=(shell.pid,))
assert not processes.has_ended(orphan, 0) and len(asked) > 2
shell.stdin.close()
shell.wait()
assert parent_of(orphan) == os.getpid()
asked.clear()
orphans.end(spared=())
assert orphan in asked and os.getpid() not in asked
wait_until(lambda: processes.has_ended(orphan, 0), 60.0)
os.waitpid(orphan, 0)
print("found")
"""


def test_who_loses_its_parent_is_found_by_that_alone():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["found"], done.stderr
