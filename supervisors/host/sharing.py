"""What a process that is to fork does last, so that what it has loaded stays common to all that it forks.

Each object that a forked process touches costs it a copy of a page, and Python touches more than what runs. A collector
writes to each object that it visits; a full collection gives back the blocks that Python keeps for its next tuples and
lists, wherever they lie; and the cache of methods lets go of the name that it held for each one that is looked up. That
is half a megabyte and more in each process of a node.
"""

from __future__ import annotations

import gc
import sys


def share() -> None:
    """Keep all that there is now for ever, and leave nothing behind that a forked process would have to put away.

    The little garbage among it is not looked for, which would take as long as a tenth of the imports. The collector is
    on afterwards.
    """
    gc.freeze()
    gc.collect()  # nothing is there to be visited: it only empties the lists of free blocks
    clear = "_clear_internal_caches" if sys.version_info >= (3, 13) else "_clear_type_cache"
    getattr(sys, clear)()
    gc.enable()
