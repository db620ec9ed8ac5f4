"""Language models: settings, wire formats, and the session that asks them.

`lm.LM` is what users hold; `backend` decides who answers; `session.LMSession` asks inside a worker, with
`wire/` for the formats, `retry` for the decisions and `http` for the connections.
"""
