"""How Thespian is loaded: without a question to the network, of which each may take seconds."""

import subprocess
import sys

_LOAD = """
import socket
asked = []
for name in ("getfqdn", "getaddrinfo", "gethostbyname", "gethostbyaddr"):
    setattr(socket, name, lambda *question, _name=name: asked.append(_name) or [])
before = vars(socket).copy()
from supervisors.runtime.thespian.loading import load_thespian
load_thespian()
print(asked, vars(socket) == before)
import supervisors.runtime.thespian.supervisor, supervisors.runtime.thespian.system
print(asked)
"""


def test_thespian_is_loaded_without_asking_the_network():
    done = subprocess.run([sys.executable, "-c", _LOAD], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[] True", "[]"], done.stderr
