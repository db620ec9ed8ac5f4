"""`dspex.streaming`: what is needed to read programs' answers as they come."""

from dspex_actors.lm.content.pieces import Piece
from dspex_actors.lm.stream import LMStream
from dspex_actors.programs.streaming.listener import StreamListener
from dspex_actors.programs.streaming.messages import StatusMessage, StatusMessageProvider, StreamResponse
from dspex_actors.programs.streaming.streamify import apply_sync_streaming, streamify, streaming_response

__all__ = [
    "LMStream",
    "Piece",
    "StatusMessage",
    "StatusMessageProvider",
    "StreamListener",
    "StreamResponse",
    "apply_sync_streaming",
    "streamify",
    "streaming_response",
]
