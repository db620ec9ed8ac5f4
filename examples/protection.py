"""A search that breaks down: many threads ask it under one protected key, and it is left alone until it is back.

    python examples/protection.py

Needs no provider. The search lets 50 requests a second through, 8 at a time, and is away for a second.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import dspex_actors as dspex

AWAY = (0.5, 1.5)


class Search:
    """Something that is slow, and away for a while."""

    def __init__(self):
        """Begin now."""
        self.began = time.monotonic()
        self.in_vain = 0
        self._lock = threading.Lock()

    def __call__(self, question):
        """Answer, or not."""
        time.sleep(0.01)
        if AWAY[0] < time.monotonic() - self.began < AWAY[1]:
            with self._lock:
                self.in_vain += 1
            raise ConnectionError("no route to the search")
        return f"about {question}"


def ask(search, question):
    """Ask until there is an answer, and no sooner than is worth it."""
    while True:
        try:
            return dspex.execute_protected("search", lambda: search(question), timeout=10.0)
        except dspex.CircuitOpen as error:
            time.sleep(error.retry_after)
        except ConnectionError:
            pass


def main():
    """Ask 100 questions."""
    with dspex.connect():
        dspex.configure_protection(
            "search",
            circuit_breaker={"failure_threshold": 3, "recovery_time": 0.2, "growth": 1.0},
            rate_limiter={"requests": (50, 1.0)},
            pool={"max_concurrent": 8},
        )
        search = Search()
        with ThreadPoolExecutor(16) as threads:
            answers = list(threads.map(lambda number: ask(search, f"question {number}"), range(100)))
        print(f"{len(answers)} answers, {search.in_vain} calls in vain")


if __name__ == "__main__":
    main()
