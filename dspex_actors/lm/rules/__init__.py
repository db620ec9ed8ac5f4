"""What each provider and family of models makes of our parameters: rules as data (`table`), used by `fitting`."""

from dspex_actors.lm.rules.fitting import fit, rows_for
from dspex_actors.lm.rules.table import is_openai_own, is_openai_reasoning

__all__ = ["fit", "is_openai_own", "is_openai_reasoning", "rows_for"]
