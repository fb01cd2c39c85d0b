"""A driver whose sweep is kept in S3; run by `test_storage_s3`, in a process of its own, which may be killed.

``python -m tests.tune.s3_sweep <resume: 0 or 1>``; credentials, endpoint and ``STEP_SECONDS`` are in the environment.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import s3fs

import core
import tune

TRIALS, STEPS = 4, 4


def train(config: dict[str, Any]) -> None:
    """Count to STEPS, with a checkpoint at each step."""
    start = 0
    checkpoint = tune.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as directory:
            start = json.loads(Path(directory, "state.json").read_text())["step"]
    for step in range(start + 1, STEPS + 1):
        time.sleep(float(os.environ["STEP_SECONDS"]))
        with tempfile.TemporaryDirectory() as directory:
            Path(directory, "state.json").write_text(json.dumps({"step": step}))
            tune.report({"step": step, "resumed_at": start}, checkpoint=tune.Checkpoint.from_directory(directory))


def main(resume: bool) -> None:
    """Run or resume the sweep, and print what came out."""
    core.init(num_cpus=2)
    given = {}
    if "GIVEN_ENDPOINT" in os.environ:
        endpoint, key, secret = (os.environ[name] for name in ("GIVEN_ENDPOINT", "GIVEN_KEY", "GIVEN_SECRET"))
        given["storage_filesystem"] = s3fs.S3FileSystem(endpoint_url=endpoint, key=key, secret=secret)
    analysis = tune.run(
        train,
        name="sweep",
        config={"x": tune.grid_search(list(range(TRIALS)))},
        metric="step",
        mode="max",
        storage_path="s3://results/team",
        checkpoint_config=tune.CheckpointConfig(num_to_keep=2),
        sync_config=tune.SyncConfig(sync_period=0.2),
        resume=resume or None,
        verbose=0,
        **given,
    )
    with analysis.best_checkpoint.as_directory() as directory:
        state = json.loads(Path(directory, "state.json").read_text())
    rows = [{"x": t.config["x"], "status": str(t.status), **t.last_result} for t in analysis.trials]
    print("OUTCOME", json.dumps({"trials": rows, "best": state}), flush=True)
    core.shutdown()


if __name__ == "__main__":
    main(sys.argv[1] == "1")
