"""Protect anything: limits on speed, a circuit and a pool under one key, shared by all processes of the node.

`handle` has what users call, `spec` checks what they say, `core` decides, `actor` is the one owner of all keys of the
node, `store` what it writes down so that its successor goes on, `access` how this process reaches it.
"""
