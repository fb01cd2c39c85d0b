"""The command ``serve``."""

from __future__ import annotations

from serve.cli.main import main

__all__ = ["main"]
