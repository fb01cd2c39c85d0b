"""A trial whose work is done by a task, item by item.

The processes of tasks are kept between sweeps, with everything they have imported; those of trials are not. A front
that runs many short sweeps over a library that takes a second to import (scikit-learn) therefore lets tasks do the
work, and its trials only pass results on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import core
from tune.trial_process.session import report


def pass_on(config: dict[str, Any], *, inputs: list[Any]) -> None:
    """Run a generator of results in a task and report each result. A trainable, once its parameters are bound.

    Args:
        config: the configuration.
        inputs: references to the generator function, which is called with the configuration, and to its further
            arguments. This process opens none of them, so it imports nothing that they need.
    """
    results = _generate.remote(config, *inputs)
    try:
        for result in results:
            report(core.get(result))
    except BaseException:
        core.cancel(results)  # the trial was stopped: its scheduler has seen enough
        raise


# An environment that is not a slot's: the next sweep's slots would else take these processes over.
@core.remote(num_returns="streaming", max_retries=0, runtime_env={"env_vars": {"SKATE_TUNE_SLOT": "0"}})
def _generate(config: dict[str, Any], function: Any, *arguments: Any) -> Iterator[Any]:
    yield from function(config, *arguments)
