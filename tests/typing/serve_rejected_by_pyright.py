"""Wrong programs with serve that pyright finds and mypy does not (see ``rejected_by_pyright.py``)."""

from __future__ import annotations

import serve
from tests.typing.serve_accepted import chain_deployment, doubler_deployment


@serve.deployment(num_replicas=2)
class Decorated:
    """A deployment as Ray Serve's programs write it."""

    def __init__(self, start: int) -> None:
        self.n = start

    async def __call__(self, number: int) -> str:
        return ""


Decorated.bind(1)
Decorated.bind("x")  # error
Decorated.bind()  # error
Decorated(1)  # error
serve.run(Decorated.bind(1)).remote("x")  # error
doubler_deployment.bind("x")  # error
doubler_deployment.bind(1, nam="x")  # error
chain_deployment.bind(Decorated.bind(1), [1])  # error
chain_deployment.bind(doubler_deployment.bind(1))  # error
