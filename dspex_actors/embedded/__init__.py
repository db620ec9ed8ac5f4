"""The embedded LM: a language model without weights, behind a real HTTP server.

It answers like the nearest example in its prompt, says so, and speaks OpenAI's, Anthropic's, Gemini's and
Cohere's wire formats, with their limits and their failures on request. For tests, demonstrations and
measurements; never a substitute for a model's knowledge.
"""

from dspex_actors.embedded.config import EmbeddedConfig
from dspex_actors.embedded.learner import Learner
from dspex_actors.embedded.run import parse_faults, run
from dspex_actors.embedded.server import RunningServer, start_server
from dspex_actors.embedded.service import Stats

__all__ = ["EmbeddedConfig", "Learner", "RunningServer", "Stats", "parse_faults", "run", "start_server"]
