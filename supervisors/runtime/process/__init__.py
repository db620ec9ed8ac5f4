"""A GenServer's life: mailbox, calls, names, links and monitors. It does not know Thespian."""
