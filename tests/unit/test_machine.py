"""What a machine, a container or a batch system leaves to a process."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from core.node import machine

GIB = 1 << 30


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a file system of control groups, in which this process is at ``/batch/job``."""
    monkeypatch.setattr(machine, "CGROUP_ROOT", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "MEMBERSHIPS", tmp_path / "memberships")
    (tmp_path / "memberships").write_text("0::/batch/job\n")
    return tmp_path / "cgroup"


def write(directory: Path, **files: str) -> None:
    """Write a control group's files; ``memory_max="1"`` is ``memory.max``."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name.replace("_", ".", 1)).write_text(text)


def old_memberships(tmp_path: Path) -> None:
    text = "7:cpu,cpuacct:/batch/job\n4:memory:/batch/job\n1:name=systemd:/\n"
    (tmp_path / "memberships").write_text(text)


@pytest.mark.parametrize(
    ("quota", "usable"), [("max 100000", 8), ("350000 100000", 3), ("50000 100000", 1), ("1000000 100000", 8), ("", 8)]
)
def test_a_quota_of_cpus_counts(groups: Path, monkeypatch: pytest.MonkeyPatch, quota: str, usable: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8))
    write(groups / "batch", cpu_max=quota)
    write(groups / "batch" / "job", cpu_max="max 100000")
    assert machine.cpus() == usable


def test_a_quota_of_the_older_interface_counts(groups: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8))
    old_memberships(tmp_path)
    write(groups / "cpu,cpuacct" / "batch" / "job", cpu_cfs_quota_us="-1", cpu_cfs_period_us="100000")
    write(groups / "cpu,cpuacct", cpu_cfs_quota_us="200000", cpu_cfs_period_us="100000")
    assert machine.cpus() == 2


def test_the_tightest_limit_of_memory_counts(groups: Path) -> None:
    write(groups, memory_max="max")
    write(groups / "batch", memory_max=str(GIB), memory_current="0", memory_stat="")
    write(groups / "batch" / "job", memory_max=str(2 * GIB), memory_current="0", memory_stat="")
    assert machine.memory() == GIB


def test_a_container_that_sees_the_path_outside_has_its_limits_at_the_root(groups: Path) -> None:
    write(groups, memory_max=str(GIB), memory_current=str(GIB // 2), memory_stat="")
    assert machine.memory() == GIB
    assert machine.memory_usage()[1] in (GIB, machine._machine_usage()[1])


def test_pages_of_files_are_no_memory_in_use(groups: Path, tmp_path: Path) -> None:
    old_memberships(tmp_path)
    write(
        groups / "memory" / "batch" / "job",
        memory_limit_in_bytes="1000",
        memory_usage_in_bytes="990",
        memory_stat="inactive_file 900\nactive_file 900\ntotal_inactive_file 10\ntotal_active_file 20\n",
    )
    assert machine.memory_usage() == (960, 1000)


def test_the_limit_of_the_address_space_counts(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda number: (GIB, resource.RLIM_INFINITY))
    assert machine.memory() == GIB


def test_memberships_that_make_no_sense_are_passed_over(groups: Path, tmp_path: Path) -> None:
    write(groups, memory_max=str(GIB), memory_current="0", memory_stat="")
    (tmp_path / "memberships").write_bytes(b"\n:\nnonsense\n5:memory\n0::/b\xff\n")
    assert machine.memory() == GIB


def test_a_system_that_tells_nothing_has_a_nominal_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "MEMBERSHIPS", tmp_path / "missing")
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)

    def unknown(name: str) -> int:
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "sysconf", unknown)
    monkeypatch.setattr(resource, "getrlimit", lambda number: (resource.RLIM_INFINITY,) * 2)
    assert machine.cpus() == 1
    assert machine.memory() == machine.NOMINAL_MEMORY
