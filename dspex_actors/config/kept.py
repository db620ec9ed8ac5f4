"""What was updated on a node, as it is kept in its folder."""

from __future__ import annotations

import json
from pathlib import Path

from dspex_actors.config.core import Configuration
from dspex_actors.config.started import UPDATES_FILE
from dspex_actors.errors import ConfigError


def kept_updates(data_dir: str | Path, configuration: Configuration) -> Configuration:
    """Return a configuration with what was updated on the node of a folder; what is not legal any more is dropped.

    Raises:
        ConfigError: it cannot be read.
    """
    file = Path(data_dir) / UPDATES_FILE
    try:
        configuration.restore(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return configuration
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{file} cannot be read ({type(error).__name__}): mend or remove it") from None
    return configuration.over(configuration.layers)
