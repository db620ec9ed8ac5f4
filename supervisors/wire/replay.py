"""What a receiver remembers of a sender's frames, so that it takes none of them twice."""

from array import array
from bisect import bisect_left, insort

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

# 2 MiB per sender at most: two minutes at 2,000 frames a second.
_WINDOW = 2**18
_TRIM_EVERY = 4096


class Sender:
    """The cipher of one sender and the counters that came from it, in order."""

    __slots__ = ("cipher", "floor", "heard", "seen")

    def __init__(self, cipher: ChaCha20Poly1305) -> None:
        """Nothing came yet."""
        self.cipher = cipher
        self.seen = array("Q")
        # Counters up to this one are forgotten: a frame with one of them may be a replay.
        self.floor = 0
        #: When the last one came, by the receiver's own clock.
        self.heard = 0

    def has(self, counter: int) -> bool:
        """Whether this counter came and is remembered."""
        seen = self.seen
        if not seen or counter > seen[-1]:
            return False
        return seen[bisect_left(seen, counter)] == counter

    def add(self, counter: int, oldest: int, now: int) -> None:
        """Remember a counter, which came now; forget those before `oldest`, which are refused for their age."""
        self.heard = now
        seen = self.seen
        if not seen or counter > seen[-1]:
            seen.append(counter)
        else:
            insort(seen, counter)
        # Asked now and then only: forgetting moves what stays.
        if not len(seen) % _TRIM_EVERY:
            cut = bisect_left(seen, oldest)
            if len(seen) >= _WINDOW:
                cut = max(cut, _WINDOW // 4)
            if cut:
                self.floor = seen[cut - 1]
                del seen[:cut]

    def forget(self) -> None:
        """Forget the counters of a sender that has been silent: none of them comes again."""
        self.floor = self.newest
        self.seen = array("Q")

    @property
    def newest(self) -> int:
        """The largest counter that came."""
        return self.seen[-1] if self.seen else self.floor
