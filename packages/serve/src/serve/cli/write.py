"""``serve build``: a config file for applications in code. ``serve schema``: what editors check config files by."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from serve.cli.options import AppDir
from serve.cli.output import as_yaml, say
from serve.cli.reporting import reporting

_HEAD = """\
# Made by `serve build`. Options here take precedence over those in the code; leave out what the code should decide.
# `serve deploy THIS_FILE` makes it run, `serve deploy THIS_FILE --dry-run --diff` says what that would change.

"""


@reporting
def build(
    import_paths: Annotated[list[str], typer.Argument(help="Where the applications are: module:attribute ...")],
    output: Annotated[Path | None, typer.Option("--output-path", "-o", help="Default: the standard output.")] = None,
    app_dir: AppDir = Path(),
) -> None:
    """Write a config file for applications in code, with the options that differ from the defaults."""
    from serve.schema.text import read  # noqa: PLC0415 - other commands need no YAML

    sys.path.insert(0, str(app_dir.absolute()))
    several = len(import_paths) > 1
    applications = [
        _application(path, f"app{number}", f"/app{number}" if several else "/")
        for number, path in enumerate(import_paths, start=1)
    ]
    whole = {
        "proxy_location": "EveryNode",
        "http_options": {"host": "127.0.0.1", "port": 8000},
        "applications": applications,
    }
    text = _HEAD + as_yaml(whole)
    read(text)  # what is written can be read
    if output is None:
        say(text.rstrip())
    else:
        output.write_text(text, encoding="utf-8")


def _application(import_path: str, name: str, prefix: str) -> dict[str, Any]:
    from serve.api.build import build as build_records  # noqa: PLC0415 - the user's code, and what handles it
    from serve.api.importing import load_or_explain  # noqa: PLC0415 - likewise

    spec = build_records(load_or_explain(import_path), name, prefix)
    return {
        "name": name,
        "route_prefix": prefix,
        "import_path": import_path,
        "runtime_env": {},
        "deployments": [{"name": each.id.name, **_options(each.config)} for each in spec.deployments],
    }


def _options(config: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a deployment that differ from the defaults, as a file can hold them."""
    from serve.config import PICKLED, DeploymentConfig  # noqa: PLC0415 - see above

    checked = DeploymentConfig.model_validate(config)
    options = checked.model_dump(mode="json", exclude_defaults=True)
    if options.get("num_replicas") is None and "autoscaling_config" not in options:
        options = {"num_replicas": 1, **options}
    policy = (options.get("autoscaling_config") or {}).get("policy") or {}
    if str(policy.get("policy_function", "")).startswith(PICKLED):
        del options["autoscaling_config"]  # a function in the code, which no file can name
    return options


@reporting
def schema(
    output: Annotated[Path | None, typer.Option("--output-path", "-o", help="Default: the standard output.")] = None,
) -> None:
    """Print the JSON schema of config files, for editors: they complete names and underline mistakes."""
    from serve.schema.deploy import ServeDeploySchema  # noqa: PLC0415 - other commands need none

    described = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Skate Serve config file",
        **ServeDeploySchema.model_json_schema(),
    }
    text = json.dumps(described, indent=2)
    if output is None:
        say(text)
    else:
        output.write_text(f"{text}\n", encoding="utf-8")
