"""After many tasks, actors and objects every process is as small as before, and nothing is left of them.

The full-size variant (1,000,000 tasks, 10,000 actors) is ``python -m benchmarks.leaks --full``.
"""

from __future__ import annotations

import pytest

from benchmarks import leaks


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nothing_grows_over_many_tasks_actors_and_objects() -> None:
    report = leaks.measure(tasks=20_000, actors=300, objects=2_000)
    assert report.tasks_done == 20_000
    assert {"driver", "daemon", "zygote"} < set(report.growth), "workers were looked at too"
    assert report.grown(leaks.ALLOWED_BYTES) == [], report
    assert report.more_descriptors == []
    assert report.more_threads == []
    assert report.zombies == []
    assert report.objects_left == 0
    assert report.files_left == []
