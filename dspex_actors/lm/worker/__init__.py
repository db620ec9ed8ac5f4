"""The side of an LM that runs in workers: sessions, HTTP, retries, and the gate before the budget."""
