"""Optimisers: programs in, better programs out."""

from dspex_actors.teleprompt.bootstrap import BootstrapFewShot
from dspex_actors.teleprompt.labeled import LabeledFewShot

__all__ = ["BootstrapFewShot", "LabeledFewShot"]
