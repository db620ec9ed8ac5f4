"""What a process that forks leaves to those that it forks: pages that stay common."""

import subprocess
import sys
from pathlib import Path

import pytest

import supervisors

#: A process loads something, as a node does, and forks. Says how many kilobytes of what was common the forked one
#: copies while it does something.
COPIED = """
import gc, os, re, sys
gc.disable()
sys.path[:0] = [{root!r}]
from supervisors.host.sharing import share

class Cold: pass
class Hot: pass
apart = []
for n in range(4096):  # names of modules that are not used, each on a page of its own
    setattr(Cold, f"cold_{{n}}", None)
    apart.append([bytes(24) for _ in range(64)])
for n in range(4096):
    setattr(Hot, f"hot_{{n}}", None)
tuples = []
for n in range(1000):  # what was freed, each on a page of its own
    tuples.append((n, n))
    apart.append([(n, k) for k in range(99)])
cold, hot = [*vars(Cold)], [*vars(Hot)]
for name in cold:
    getattr(Cold, name)
tuples.clear()
{share}

def private():
    text = open("/proc/self/smaps_rollup").read()
    return int(re.search(r"Private_Dirty: *(\\d+)", text)[1])

ready, told = os.pipe()
if os.fork() == 0:
    before = private()
    {does}
    os.write(told, str(private() - before).encode())
    os._exit(0)
print(os.read(ready, 99).decode())
"""


def copied(does, share="share()"):
    text = COPIED.format(root=str(Path(supervisors.__file__).parents[1]), share=share, does=does)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True, timeout=60)
    return int(done.stdout)


@pytest.mark.parametrize("does", ["gc.collect()", "for name in hot: getattr(Hot, name)"], ids=["collects", "looks up"])
def test_who_is_forked_copies_nothing_of_what_it_does_not_use(does):
    assert copied(does) < 1300 < copied(does, "gc.freeze()")
