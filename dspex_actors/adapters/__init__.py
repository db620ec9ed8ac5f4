"""Adapters: between a signature's fields and the messages of an LM."""

from dspex_actors.adapters.base import Adapter
from dspex_actors.adapters.chat import ChatAdapter
from dspex_actors.adapters.json import JSONAdapter

__all__ = ["Adapter", "ChatAdapter", "JSONAdapter"]
