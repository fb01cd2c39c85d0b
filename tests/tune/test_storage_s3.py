"""Sweeps kept in S3, against a real server (moto): files, checkpoints, credentials, and a driver that is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.eventually import eventually
from tests.tune.s3_sweep import STEPS, TRIALS

ROOT = Path(__file__).parents[2]
SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
"""


@dataclass
class Server:
    """A running server with an empty bucket ``results``."""

    endpoint: str
    key: str
    secret: str

    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            region_name="us-east-1",
        )

    def objects(self) -> dict[str, bytes]:
        client = self.client()
        try:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket="results")
            names = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
            return {name: client.get_object(Bucket="results", Key=name)["Body"].read() for name in names}
        finally:
            client.close()

    def names(self) -> list[str]:
        client = self.client()
        try:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket="results")
            return [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        finally:
            client.close()


@pytest.fixture
def server() -> Iterator[Server]:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        one = Server(f"http://127.0.0.1:{port}", f"KEY{uuid.uuid4().hex}", f"SECRET{uuid.uuid4().hex}")
        client = one.client()
        client.create_bucket(Bucket="results")
        client.close()
        yield one
        process.kill()


def environment(server: Server, machine: Path, *, given: bool) -> dict[str, str]:
    """Return the environment of a driver on a machine of its own: its temporary directory is empty at first."""
    machine.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    if given:
        place = {"GIVEN_ENDPOINT": server.endpoint, "GIVEN_KEY": server.key, "GIVEN_SECRET": server.secret}
    else:
        place = {
            "AWS_ENDPOINT_URL": server.endpoint,
            "AWS_ACCESS_KEY_ID": server.key,
            "AWS_SECRET_ACCESS_KEY": server.secret,
        }
    return {**kept, **place, "AWS_DEFAULT_REGION": "us-east-1", "TMPDIR": str(machine)}


def driver(server: Server, machine: Path, *, resume: bool, pause: float, given: bool) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.tune.s3_sweep", str(int(resume))],
        cwd=ROOT,
        env=environment(server, machine, given=given) | {"STEP_SECONDS": str(pause)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def outcome(process: subprocess.Popen[str]) -> dict[str, Any]:
    with process:
        assert process.stdout is not None
        output = process.stdout.read()
    lines = [line.removeprefix("OUTCOME ") for line in output.splitlines() if line.startswith("OUTCOME ")]
    assert process.returncode == 0 and lines, output
    found: dict[str, Any] = json.loads(lines[0])
    return found


def checkpoints(names: list[str]) -> dict[str, list[str]]:
    """Return the checkpoints of each trial that are in the bucket."""
    found: dict[str, set[str]] = {}
    for name in names:
        parts = name.split("/")
        if len(parts) > 3 and parts[3].startswith("checkpoint_"):
            found.setdefault(parts[2], set()).add(parts[3])
    return {trial: sorted(kept) for trial, kept in found.items()}


@pytest.mark.parametrize("given", [False, True], ids=["environment", "filesystem"])
def test_a_sweep_in_s3(server: Server, tmp_path: Path, given: bool) -> None:
    found = outcome(driver(server, tmp_path / "a", resume=False, pause=0, given=given))
    assert [row["status"] for row in found["trials"]] == ["TERMINATED"] * TRIALS
    assert found["best"] == {"step": STEPS}
    objects = server.objects()
    assert all(name.startswith("team/sweep/") for name in objects)
    assert any(name.startswith("team/sweep/journal/") for name in objects)
    assert sum(name.endswith("/params.json") for name in objects) == TRIALS
    kept = checkpoints(list(objects))
    assert len(kept) == TRIALS and all(len(names) == 2 for names in kept.values()), kept
    staged = [file for file in (tmp_path / "a").rglob("*") if file.is_file()]
    assert staged
    for text in (server.key, server.secret, server.endpoint):
        assert not [name for name, data in objects.items() if text.encode() in data]
        assert not [file for file in staged if text.encode() in file.read_bytes()]


def test_a_killed_driver_is_resumed_on_another_machine_from_s3_alone(server: Server, tmp_path: Path) -> None:
    first = driver(server, tmp_path / "a", resume=False, pause=1.0, given=False)

    def two_trials_are_under_way() -> bool:
        return sum("checkpoint_000001" in names for names in checkpoints(server.names()).values()) >= 2

    try:
        eventually(two_trials_are_under_way, timeout=60)
    finally:
        with first:
            first.kill()
            assert first.stdout is not None
            first.stdout.read()
    found = outcome(driver(server, tmp_path / "b", resume=True, pause=0, given=False))
    assert sorted(row["x"] for row in found["trials"]) == list(range(TRIALS))
    assert [row["status"] for row in found["trials"]] == ["TERMINATED"] * TRIALS
    assert [row["training_iteration"] for row in found["trials"]] == [STEPS] * TRIALS
    assert any(row["resumed_at"] for row in found["trials"]), "trials went on from checkpoints"
    assert found["best"] == {"step": STEPS}
