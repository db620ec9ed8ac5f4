"""GEPA, and what its users write: proposers of instructions, metrics with feedback."""

from dspex_actors.teleprompt.gepa.instructions import InstructionProposer
from dspex_actors.teleprompt.gepa.optimizer import GEPA
from dspex_actors.teleprompt.gepa.result import GEPAResult
from dspex_actors.teleprompt.gepa.trajectories import FailedPrediction, ScoreWithFeedback

__all__ = ["GEPA", "FailedPrediction", "GEPAResult", "InstructionProposer", "ScoreWithFeedback"]
