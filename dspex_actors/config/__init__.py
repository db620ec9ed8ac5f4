"""Configuration: one schema, its layers, and the actor that keeps what was updated.

`load_config` reads what a command needs, the node's settings and LMs by name; `system.config` is the whole of it.
"""

from dspex_actors.config.loading import DEFAULT_LM, Config, NodeSettings, load_config
from dspex_actors.config.sources import FILE_NAME, FILE_VARIABLE

__all__ = ["DEFAULT_LM", "FILE_NAME", "FILE_VARIABLE", "Config", "NodeSettings", "load_config"]
