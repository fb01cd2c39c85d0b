"""All commands in one place; each lives in the module that says what it is about."""

from __future__ import annotations

import typer

from serve.cli.change import delete, promote, rollback, scale, shutdown, traffic
from serve.cli.deploy import deploy, start
from serve.cli.look import config, history, status
from serve.cli.run import run
from serve.cli.write import build, schema

app = typer.Typer(
    name="serve",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Serve models and other Python code over HTTP.",
)
for command in (
    run,
    start,
    deploy,
    status,
    config,
    history,
    delete,
    scale,
    rollback,
    traffic,
    promote,
    shutdown,
    build,
    schema,
):
    app.command()(command)
