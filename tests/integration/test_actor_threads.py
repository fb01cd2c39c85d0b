"""Which thread runs what in an actor with groups. Ours, not Ray's: there the default group is a pool, too."""

from __future__ import annotations

import os
import threading

import psutil
import pytest

import core
from tests.eventually import eventually

pytestmark = pytest.mark.usefixtures("session")


@core.remote(concurrency_groups={"health": 1})
class Service:
    """Works on the main thread, and tells how it is on another."""

    def work(self) -> bool:
        return threading.current_thread() is threading.main_thread()

    @core.method(concurrency_group="health")
    def check(self) -> bool:
        return threading.current_thread() is threading.main_thread()


def test_beside_named_groups_the_default_one_is_the_main_thread() -> None:
    service = Service.remote()
    # The first calls may come before the actor is ready, the later ones do not.
    for _ in range(2):
        assert core.get([service.work.remote(), service.check.remote()], timeout=30) == [True, False]


@core.remote(concurrency_groups={"more": 1}, max_concurrency=2)
class Pooled:
    """Several calls at a time in the default group: those need a pool."""

    def work(self) -> bool:
        return threading.current_thread() is threading.main_thread()


def test_a_default_group_of_several_is_a_pool() -> None:
    assert core.get(Pooled.remote().work.remote(), timeout=30) is False


def test_such_an_actor_ends_when_nobody_holds_it() -> None:
    service = Service.remote()
    pid = core.get(service.__ray_call__.remote(_pid), timeout=30)
    del service
    eventually(lambda: not _lives(pid))


def _pid(_: object) -> int:
    return os.getpid()


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
