"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        "-a",
        help="Of the running Serve's REST API. Default: SKATE_SERVE_ADDRESS, RAY_DASHBOARD_ADDRESS, or "
        "http://127.0.0.1:8265.",
    ),
]
AppDir = Annotated[Path, typer.Option(help="Directory to import from.", file_okay=False, exists=True)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Name = Annotated[str, typer.Argument(help="Name of the application.")]
