"""The one owner of trials: decides what becomes of them, and keeps the record of it."""

from __future__ import annotations

from tune.controller.loop import run_sweep
from tune.controller.outcome import EndReason, SweepOutcome
from tune.controller.plan import SweepPlan

__all__ = ["EndReason", "SweepOutcome", "SweepPlan", "run_sweep"]
