"""Actors for the tests of the transport. Messages are bytes."""

from thespian.actors import Actor, PoisonMessage


class Counter(Actor):
    """Counts what it gets: `count` answers with the number of `hit`s; `big` tries to send too much."""

    hits = 0

    def receiveMessage(self, message, sender):  # noqa: N802
        if message == b"hit":
            self.hits += 1
        elif message == b"count":
            self.send(sender, b"%d" % self.hits)
        elif message == b"big":
            self.asker = sender
            self.send(sender, b"x" * (64 * 1024 * 1024 + 1))
        elif isinstance(message, PoisonMessage):
            self.send(self.asker, b"refused")
        elif isinstance(message, bytes):
            self.send(sender, b"echo:" + message)


class Parent(Actor):
    """Starts a Counter on `start`, and passes messages on to it and answers back."""

    def receiveMessage(self, message, sender):  # noqa: N802
        if message == b"start":
            self.asker = sender
            self.child = self.createActor(Counter)
            self.send(self.child, b"ready")
        elif isinstance(message, bytes):
            if sender == self.child:
                self.send(self.asker, message)
            else:
                self.send(self.child, message)
