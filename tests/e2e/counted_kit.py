"""The stand-in LM of `counted_server`: what was asked, and when, as the provider sees it."""

import json
import subprocess
import sys
import urllib.request
from collections import Counter
from pathlib import Path

import warm

import dspex_actors as dspex


class Counted:
    """The server.

    Args:
        latency: seconds that it takes to answer.
        host: its address.
    """

    def __init__(self, latency, host="127.0.0.1"):
        command = [sys.executable, Path(__file__).with_name("counted_server.py"), str(latency), host]
        self._process = warm.Popen(command, stdout=subprocess.PIPE, text=True)
        self.url = self._process.stdout.readline().strip()

    def lm(self, **settings):
        """Return an LM that asks it."""
        return dspex.LM("openai/x", base_url=self.url, **{"cache": False, **settings})

    def asked(self):
        """Return when which ticket was asked: pairs, in order."""
        with urllib.request.urlopen(self.url.removesuffix("/v1") + "/asked", timeout=60) as answer:
            return [(at, ticket) for at, ticket in json.load(answer)]

    def asked_twice(self, since=0.0):
        """Return the tickets that were asked more than once after a moment of time.monotonic."""
        times = Counter(ticket for at, ticket in self.asked() if at >= since)
        return sorted(ticket for ticket, count in times.items() if count > 1)

    def most_in(self, seconds, after=0):
        """Return how many requests came at most in a window of so many seconds, the first `after` left out."""
        times = [at for at, _ in self.asked()[after:]]
        first = most = 0
        for last, at in enumerate(times):
            while times[first] <= at - seconds:
                first += 1
            most = max(most, last - first + 1)
        return most

    def close(self):
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
