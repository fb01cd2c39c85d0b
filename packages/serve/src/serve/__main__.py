"""``python -m serve`` is the command ``serve``."""

from __future__ import annotations

from serve.cli import main

if __name__ == "__main__":
    main()
