"""``python -m tune.cli``: the command ``tune`` where it is not on the path."""

from tune.cli import main

main()
