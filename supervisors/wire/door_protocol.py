"""What programs outside and the door of a node say to each other.

A request is `[number, operation, *arguments]`, and its answer `[number, ok, value]`: the value, or the error where `ok`
is false. The first request of a connection is HELLO. Numbers are the client's own; with `UNASKED` nobody reads the
answer. `[UNASKED, DOWN, monitor, Down]` comes from the door by itself. Users' requests, messages and replies are bytes
in it that the door does not open.
"""

from __future__ import annotations

#: The number of what is no answer, and of requests whose answer nobody reads.
UNASKED = 0
#: In the place of `ok`: a monitored process has ended.
DOWN = "down"

# --- of the connection itself: arguments → value --------------------------------------------------------------------

#: wire version, name that frames to this client are sealed for → what is known of the node
HELLO = "hello"
#: → None: a sign of life
BEAT = "beat"
#: number of a request whose answer is not wanted any more → no answer
CANCEL = "cancel"
#: target → its number, and the ref of the process; later a DOWN, once
MONITOR = "monitor"
#: number of a monitor → None
DEMONITOR = "demonitor"
#: → None, when all that was sent over this connection has arrived where it was for, or after a few seconds
BYE = "bye"

# --- to processes ---------------------------------------------------------------------------------------------------

#: target, request, timeout → reply
CALL = "call"
#: task, request, whether the task is to end with the claim → reply
CLAIM = "claim"
#: target, message → None
CAST = "cast"
#: target, message to handle_info → None
SEND = "send"
#: target, reason → None
EXIT = "exit"
#: target, reason, timeout → None, when the process is gone
STOP = "stop"
#: target, question (get_state, suspend, ...), argument, timeout → answer
SYSTEM = "system"
#: name → ref or None
WHEREIS = "whereis"
#: supervisor, name of the administration call, argument → value
SUPERVISOR = "supervisor"
#: spec → ref, or None
START_SUPERVISOR = "start_supervisor"

# --- about the cluster ----------------------------------------------------------------------------------------------

#: row of a node that wants to join (cluster/membership/table.py) → None; the membership of this node runs then
JOIN = "join"

# --- about the node -------------------------------------------------------------------------------------------------

#: → the supervision tree, nested dicts
TREE = "tree"
#: → a dict
STATUS = "status"
#: how many → the last reports, oldest first
REPORTS = "reports"
#: → names and refs
NAMES = "names"
#: → a row per process: pid, messages taken, messages waiting, seconds in the present handler
STATS = "stats"
