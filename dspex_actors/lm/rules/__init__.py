"""What each provider and family of models makes of our parameters: rules as data (`table`), used by `fitting`."""

from dspex_actors.lm.rules.fitting import fit

__all__ = ["fit"]
