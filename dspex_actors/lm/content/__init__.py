"""What messages and replies are made of, typed: messages, their parts, and the pieces of a reply under way."""

from dspex_actors.lm.content.logprobs import Logprob
from dspex_actors.lm.content.messages import Message, ToolResult
from dspex_actors.lm.content.parts import Audio, File, Image, Other, Part, Text, Thinking, ToolCall
from dspex_actors.lm.content.pieces import Piece

__all__ = [
    "Audio",
    "File",
    "Image",
    "Logprob",
    "Message",
    "Other",
    "Part",
    "Piece",
    "Text",
    "Thinking",
    "ToolCall",
    "ToolResult",
]
