"""Numbers of ``@serve.batch`` and ``@serve.multiplexed`` in this process. Ray's names."""

from __future__ import annotations

from serve.batching.batcher import SIZES, TIMES_MS, batchers
from serve.metrics.report import Distribution, Family, Labels
from serve.multiplex.cache import caches


def batch_families(tags: Labels) -> list[Family]:
    """Return what batched functions have done.

    Args:
        tags: application, deployment and replica.
    """
    processed = Family("counter", "serve_batches_processed", "Batches that left.")
    sizes = Family("histogram", "serve_actual_batch_size", "Items in a batch.", tuple(map(float, SIZES)))
    times = Family(
        "histogram", "serve_batch_execution_time_ms", "Milliseconds that a batch took.", tuple(map(float, TIMES_MS))
    )
    waits = Family(
        "counter", "serve_batch_wait_time_ms_sum", "Milliseconds that items waited for their batch to leave."
    )
    waiting = Family("gauge", "serve_batch_queue_length", "Items that wait for their batch to leave.")
    for batcher in batchers():
        counters = batcher.counters
        labels = tuple(sorted((*tags, ("function_name", batcher.name.rpartition(".")[2]))))
        for family, value in (
            (processed, counters.batches),
            (waits, counters.waited * 1000.0),
            (waiting, batcher.waiting),
        ):
            family.values[labels] = family.values.get(labels, 0.0) + value
        _add(sizes, labels, counters.sizes, float(counters.items))
        _add(times, labels, counters.times, counters.seconds * 1000.0)
    return [processed, sizes, times, waits, waiting] if processed.values else []


def model_families(tags: Labels) -> list[Family]:
    """Return what loaders of models have done.

    Args:
        tags: application, deployment and replica.
    """
    found = caches()
    if not found:
        return []
    loads = sum(cache.counters.loads for cache in found)
    hits = sum(cache.counters.hits for cache in found)
    figures = (
        (
            "gauge",
            "serve_num_multiplexed_models",
            "Models that are loaded.",
            sum(len(each.model_ids) for each in found),
        ),
        ("counter", "serve_multiplexed_get_model_requests_counter", "Requests for a model.", loads + hits),
        ("counter", "serve_multiplexed_models_load_counter", "Models that were loaded.", loads),
        (
            "counter",
            "serve_multiplexed_models_unload_counter",
            "Models that were let go.",
            sum(cache.counters.unloads for cache in found),
        ),
        (
            "counter",
            "serve_multiplexed_models_load_failure_counter",
            "Models whose loader raised.",
            sum(cache.counters.failed_loads for cache in found),
        ),
    )
    return [Family(kind, name, description, (), {tags: float(value)}) for kind, name, description, value in figures]


def _add(family: Family, labels: Labels, counts: list[int], total: float) -> None:
    known = family.distributions.get(labels)
    if known is None:
        family.distributions[labels] = Distribution(list(counts), total)
    else:
        known.counts = [a + b for a, b in zip(known.counts, counts, strict=True)]
        known.total += total
