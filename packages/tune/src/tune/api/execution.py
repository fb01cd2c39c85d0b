"""A sweep from settings to results: the session, the place, the plan, the backend, the controller."""

from __future__ import annotations
