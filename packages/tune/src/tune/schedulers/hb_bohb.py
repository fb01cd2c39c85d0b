"""HyperBand as BOHB's half (Falkner et al., ICML 2018); the other half is a model-based searcher."""

from __future__ import annotations

from tune.schedulers.hyperband import HyperBandScheduler


class HyperBandForBOHB(HyperBandScheduler):
    """Synchronous HyperBand for use with a searcher that learns from intermediate results, such as ``TuneBOHB``.

    The scheduler's part of BOHB is HyperBand as it stands: the most sparing bracket first, brackets filled one after
    the other, paused trials taken up before new ones are asked for, so that the searcher knows as much as possible when
    it suggests. The searcher sees every result, those at the milestones among them.
    """

    def debug_string(self) -> str:
        """Return one line about the brackets."""
        return f"BOHB's {super().debug_string()}"
