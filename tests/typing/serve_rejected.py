"""Wrong programs with serve: a type checker must find an error in every line marked ``# error`` and in no other.

Read by ``test_typing.py``, never run.
"""

from __future__ import annotations

import serve
from tests.typing.serve_accepted import chain, decorated, doubler, doubler_deployment, greeting, streaming

chain.remote("x")  # error
chain.remote()  # error
chain.remote(1, 2)  # error
doubler.remote(1, unit=2)  # error
doubler.remote(greeting.remote("x"))  # error
number: int = doubler.remote(1).result()  # error
serve.typed(doubler).scale.remote("x")  # error
serve.typed(doubler).scale.remote()  # error
serve.typed(doubler).name.remote(1.0, lower=True)  # error
serve.typed(streaming).count.remote("x")  # error
greeting.remote(1)  # error
doubler.options(multiplexed_model=1)  # error
doubler.options(stream=3)  # error
decorated.bind("x")  # error
serve.deployment(num_replica=1)  # error
serve.deployment(num_replicas="many")  # error
doubler_deployment.options(max_ongoing=1)  # error
serve.run(doubler_deployment)  # error
serve.run(doubler_deployment.bind(1), route=None)  # error
