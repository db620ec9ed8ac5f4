"""How many tokens a text costs: an estimate that is cheap, deterministic and close to a real tokenizer's.

Four characters to a token holds for English prose; text of very short words has at least one token a word.
"""

from __future__ import annotations

CHARS_PER_TOKEN = 4
#: What the providers add for the role and the separators of each message, and once for the reply's start.
PER_MESSAGE = 4
PER_REPLY = 3
#: A picture or a file has no text; this is what a small one costs at OpenAI.
PER_ATTACHMENT = 85


def count(text: str) -> int:
    """Estimate the tokens of `text`; 0 for the empty text."""
    return max((len(text) + CHARS_PER_TOKEN - 1) // CHARS_PER_TOKEN, len(text.split()))


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
