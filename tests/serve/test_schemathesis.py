"""Requests drawn from an application's own OpenAPI, good and bad ones: the answers are those that it promises.

Two of the examples, whose schemas hold bodies, paths, queries, streams and refusals; by a replica that accepts its
clients itself, and through a proxy.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import core
import serve
from serve import session

schemathesis = pytest.importorskip("schemathesis")
hypothesis = pytest.importorskip("hypothesis")

EXAMPLES = Path(__file__).parents[2] / "examples"
#: requests for each operation and way; each is drawn from the same seed every time
DRAWS = 20


@pytest.fixture(scope="module", params=["direct", "relayed"])
def serving(request: pytest.FixtureRequest) -> Iterator[None]:
    """Serve, with the examples importable, here and in replicas."""
    sys.path.insert(0, str(EXAMPLES))
    core.init(num_cpus=2, _preloaded_modules=session.PRELOADED)  # replicas start at once
    try:
        serve.start(http_options={"port": 0, "num_proxies": 0 if request.param == "direct" else 1})
        yield
    finally:
        sys.path.remove(str(EXAMPLES))
        serve.shutdown()
        core.shutdown()


@pytest.mark.usefixtures("serving")
@pytest.mark.parametrize(("example", "options"), [("serve_pipeline", {}), ("serve_tokens", {"word_s": 0})])
def test_every_answer_is_as_the_schema_says(example: str, options: dict[str, Any]) -> None:
    serve.run(importlib.import_module(example).build(**options), name=example, route_prefix="/app")
    address = f"http://127.0.0.1:{serve.get_http_port()}/app"
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    asked = 0
    for operation in schema.get_all_operations():
        case = operation.ok().as_strategy()

        @hypothesis.seed(0)
        @hypothesis.settings(max_examples=DRAWS, deadline=None, database=None, derandomize=False)
        @hypothesis.given(case=case)
        def ask(case: object) -> None:
            nonlocal asked
            asked += 1
            case.call_and_validate(timeout=30)

        ask()
    assert asked >= DRAWS
    serve.delete(example)
