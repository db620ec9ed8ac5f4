"""What the embedded LM takes a chat for, and how it cuts an answer to the tokens that it may have."""

from __future__ import annotations

from dspex_actors.foundation.tokens import CHARS_PER_TOKEN, PER_MESSAGE, count

#: What the providers add once, for the reply's start.
PER_REPLY = 3
#: A picture or a file has no text; this is what a small one costs at OpenAI.
PER_ATTACHMENT = 85


def count_messages(messages: list[tuple[str, str]], attachments: int = 0) -> int:
    """Estimate the input tokens of a chat of (role, text) messages and so many attachments."""
    tokens = PER_REPLY + PER_ATTACHMENT * attachments
    for _, text in messages:
        tokens += PER_MESSAGE + count(text)
    return tokens


def cut(text: str, limit: int) -> str:
    """Return a start of `text` that costs at most `limit` tokens."""
    if count(text) <= limit:
        return text
    short = text[: limit * CHARS_PER_TOKEN]
    return short if count(short) <= limit else " ".join(short.split()[:limit])
