"""Who this process is on its node."""

from __future__ import annotations

import os
from typing import Any

from supervisors.host import processes
from supervisors.terms.ref import Ref

#: Port of this node's door; the daemon sets it before it forks anything.
door_port = 0


def own_ref(manager: Any, uid: str) -> Ref:
    """Return the reference of the actor that runs in this process."""
    host, port = manager.myAddress.addressDetails.sockname[:2]
    return Ref(host, port, os.getpid(), processes.born(os.getpid()), uid, door_port)
