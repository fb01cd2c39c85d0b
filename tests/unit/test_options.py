"""Options: what is accepted, what becomes of it, what is refused and how."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core.options import DYNAMIC, STREAMING, ActorOptions, MethodOptions, TaskOptions
from core.runtime_env import RuntimeEnv, normalise_runtime_env
from core.scheduling import LabelConstraint, label_selector
from core.specs import Strategy


def test_a_task_takes_one_cpu_and_three_retries_by_default() -> None:
    options = TaskOptions.of({})
    assert options.lease.resources == (("CPU", 10_000),)
    assert (options.num_returns, options.max_retries, options.max_calls) == (1, 3, 0)
    assert not options.retry_exceptions


def test_amounts_are_fixed_point_and_sorted() -> None:
    options = TaskOptions.of({"num_cpus": 0.5, "num_gpus": 2, "resources": {"b": 0.0001, "a": 1}, "memory": 100})
    assert options.lease.resources == (("CPU", 5_000), ("GPU", 20_000), ("a", 10_000), ("b", 1), ("memory", 1_000_000))


def test_zero_amounts_leave_no_trace() -> None:
    assert TaskOptions.of({"num_cpus": 0, "resources": {"x": 0}}).lease.resources == ()


def test_equal_requests_are_equal_scheduling_classes() -> None:
    one = TaskOptions.of({"resources": {"a": 1, "b": 2}, "runtime_env": {"env_vars": {"X": "1", "Y": "2"}}})
    other = TaskOptions.of({"resources": {"b": 2.0, "a": 1.0}, "runtime_env": {"env_vars": {"Y": "2", "X": "1"}}})
    assert one.lease == other.lease
    assert hash(one.lease) == hash(other.lease)


def test_the_environment_sets_the_default_of_max_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKATE_TASK_MAX_RETRIES", "7")
    assert TaskOptions.of({}).max_retries == 7
    assert TaskOptions.of({"max_retries": 0}).max_retries == 0
    monkeypatch.setenv("SKATE_TASK_MAX_RETRIES", "many")
    with pytest.raises(ValueError, match="SKATE_TASK_MAX_RETRIES"):
        TaskOptions.of({})


def test_a_gpu_task_has_its_worker_replaced() -> None:
    assert TaskOptions.of({"num_gpus": 0.5}).max_calls == 1
    assert TaskOptions.of({"num_gpus": 0.5, "max_calls": 0}).max_calls == 0


def test_retry_exceptions_names_types_or_all() -> None:
    assert TaskOptions.of({"retry_exceptions": True}).retry_on is None
    chosen = TaskOptions.of({"retry_exceptions": [ValueError, KeyError]})
    assert chosen.retry_exceptions
    assert chosen.retry_on == (ValueError, KeyError)
    assert not TaskOptions.of({"retry_exceptions": []}).retry_exceptions


def test_num_returns_of_generators() -> None:
    assert TaskOptions.of({}, is_generator=True).num_returns == STREAMING
    assert TaskOptions.of({"num_returns": "dynamic"}, is_generator=True).num_returns == DYNAMIC
    assert TaskOptions.of({"num_returns": 3}, is_generator=True).num_returns == 3
    with pytest.raises(ValueError, match="generator"):
        TaskOptions.of({"num_returns": "streaming"})


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"num_cpu": 1}, ValueError, "num_cpus"),
        ({"num_cpus": "2"}, TypeError, "number"),
        ({"num_cpus": True}, TypeError, "number"),
        ({"num_cpus": -1}, ValueError, "negative"),
        ({"num_cpus": float("inf")}, ValueError, "infinite"),
        ({"num_cpus": 0.00001}, ValueError, "smallest"),
        ({"num_gpus": 1.5}, ValueError, "whole"),
        ({"resources": {"CPU": 1}}, ValueError, "num_cpus"),
        ({"resources": {"GPU": 1}}, ValueError, "num_gpus"),
        ({"resources": {1: 1}}, TypeError, "str"),
        ({"resources": [("a", 1)]}, TypeError, "dict"),
        ({"num_returns": -1}, ValueError, "at least 0"),
        ({"num_returns": "many"}, ValueError, "streaming"),
        ({"num_returns": 1.5}, TypeError, "num_returns"),
        ({"max_retries": -2}, ValueError, "-1"),
        ({"max_retries": 1.0}, TypeError, "int"),
        ({"max_calls": -1}, ValueError, "at least 0"),
        ({"retry_exceptions": "all"}, TypeError, "list"),
        ({"retry_exceptions": [int]}, ValueError, "exception types"),
        ({"_generator_backpressure_num_objects": 0}, ValueError, "positive"),
        ({"scheduling_strategy": "PACK"}, ValueError, "SPREAD"),
        ({"scheduling_strategy": 3}, TypeError, "scheduling_strategies"),
        ({"runtime_env": ["x"]}, TypeError, "dict"),
        ({"runtime_env": {"pip": ["x"]}}, ValueError, "not supported yet"),
        ({"runtime_env": {"env_var": {}}}, ValueError, "unknown field"),
        ({"runtime_env": {"env_vars": {"A": 1}}}, TypeError, "str"),
        ({"runtime_env": {"working_dir": "/no/such/directory"}}, ValueError, "no directory"),
        ({"label_selector": {"zone": ""}}, ValueError, "empty"),
        ({"max_restarts": 1}, ValueError, "remote functions"),
    ],
)
def test_a_bad_task_option_is_refused_with_a_hint(given: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        TaskOptions.of(given)


def test_an_unknown_option_lists_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="Did you mean 'max_retries'") as raised:
        TaskOptions.of({"max_retry": 1})
    assert "scheduling_strategy" in str(raised.value)


def test_updated_merges_and_checks_the_whole() -> None:
    options = TaskOptions.of({"num_cpus": 2, "name": "a", "_metadata": {"x": 1}})
    changed = options.updated({"resources": {"r": 1}, "_metadata": {"y": 2}})
    assert changed.lease.resources == (("CPU", 20_000), ("r", 10_000))
    assert changed.name == "a"
    assert changed.given["_metadata"] == {"x": 1, "y": 2}
    assert options.lease.resources == (("CPU", 20_000),)
    with pytest.raises(ValueError, match="decorator"):
        options.updated({"max_calls": 1})


# actors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "placement", "held"),
    [
        ({}, (("CPU", 10_000),), ()),
        ({"num_cpus": 0}, (), ()),
        ({"num_cpus": 2}, (("CPU", 20_000),), (("CPU", 20_000),)),
        ({"num_gpus": 1}, (("CPU", 10_000), ("GPU", 10_000)), (("CPU", 10_000), ("GPU", 10_000))),
        ({"resources": {"r": 1}}, (("CPU", 10_000), ("r", 10_000)), (("CPU", 10_000), ("r", 10_000))),
        ({"memory": 1}, (("CPU", 10_000), ("memory", 10_000)), (("memory", 10_000),)),
    ],
)
def test_what_an_actor_needs_and_holds(given: dict[str, Any], placement: Any, held: Any) -> None:
    options = ActorOptions.of(given)
    assert options.placement.resources == placement
    assert options.held == held


def test_actor_options_are_read() -> None:
    options = ActorOptions.of(
        {
            "name": "n",
            "namespace": "s",
            "lifetime": "detached",
            "get_if_exists": True,
            "max_restarts": -1,
            "max_task_retries": 2,
            "max_concurrency": 3,
            "concurrency_groups": {"io": 2},
            "max_pending_calls": 5,
            "allow_out_of_order_execution": True,
        }
    )
    assert (options.name, options.namespace, options.detached, options.get_if_exists) == ("n", "s", True, True)
    assert (options.max_restarts, options.max_task_retries, options.max_concurrency) == (-1, 2, 3)
    assert options.concurrency_groups == (("io", 2),)
    assert (options.max_pending_calls, options.out_of_order) == (5, True)


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"max_retries": 1}, ValueError, "actors"),
        ({"lifetime": "forever"}, ValueError, "detached"),
        ({"name": ""}, ValueError, "empty"),
        ({"name": 3}, TypeError, "str"),
        ({"namespace": ""}, ValueError, "empty"),
        ({"get_if_exists": True}, ValueError, "name"),
        ({"max_concurrency": 0}, ValueError, "at least 1"),
        ({"concurrency_groups": {"io": 0}}, ValueError, "at least 1"),
        ({"concurrency_groups": {1: 1}}, TypeError, "str"),
        ({"max_pending_calls": -2}, ValueError, "-1"),
        ({"enable_tensor_transport": True}, ValueError, "not supported"),
    ],
)
def test_a_bad_actor_option_is_refused(given: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        ActorOptions.of(given)


def test_concurrency_groups_belong_to_the_decorator() -> None:
    with pytest.raises(ValueError, match="decorator"):
        ActorOptions.of({}).updated({"concurrency_groups": {"io": 1}})


def test_method_options() -> None:
    options = MethodOptions.of({"num_returns": 2, "concurrency_group": "io"})
    assert (options.num_returns, options.concurrency_group, options.max_task_retries) == (2, "io", None)
    changed = options.updated({"max_task_retries": 0, "retry_exceptions": [KeyError], "name": "x"})
    assert (changed.num_returns, changed.max_task_retries, changed.retry_on) == (2, 0, (KeyError,))
    assert MethodOptions.of({}, is_generator=True).num_returns == STREAMING
    with pytest.raises(ValueError, match="actor methods"):
        options.updated({"num_cpus": 1})


# strategies and environments -----------------------------------------------------------------------------------------


def _in_group(bundles: list[dict[str, float]], index: int = -1) -> Any:
    group = SimpleNamespace(id=SimpleNamespace(binary=lambda: b"g" * 18), bundle_specs=bundles)
    return SimpleNamespace(
        placement_group=group, placement_group_bundle_index=index, placement_group_capture_child_tasks=True
    )


def test_a_placement_group_becomes_a_strategy() -> None:
    options = TaskOptions.of({"scheduling_strategy": _in_group([{"CPU": 1}, {"CPU": 2}], 1), "num_cpus": 2})
    assert options.lease.strategy == Strategy(
        kind="placement_group", placement_group=b"g" * 18, bundle=1, capture_child_tasks=True
    )


def test_what_cannot_fit_a_bundle_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        TaskOptions.of({"scheduling_strategy": _in_group([{"CPU": 1}]), "num_cpus": 2})
    with pytest.raises(ValueError, match="bundle_index"):
        TaskOptions.of({"scheduling_strategy": _in_group([{"CPU": 1}], 1)})
    with pytest.raises(ValueError, match="does not fit"):
        ActorOptions.of({"scheduling_strategy": _in_group([{"r": 1}])})


def test_node_affinity_takes_hexadecimal_ids() -> None:
    strategy = TaskOptions.of({"scheduling_strategy": SimpleNamespace(node_id="ab" * 28, soft=True)}).lease.strategy
    assert strategy == Strategy(kind="node", node_id=b"\xab" * 28, soft=True)
    with pytest.raises(ValueError, match="56 hexadecimal"):
        TaskOptions.of({"scheduling_strategy": SimpleNamespace(node_id="here", soft=True)})


@pytest.mark.parametrize(
    ("text", "matching", "other"),
    [("a", "a", "b"), ("!a", "b", "a"), ("in(a, b)", "b", "c"), ("!in(a,b)", "c", "a")],
)
def test_label_selectors(text: str, matching: str, other: str) -> None:
    [constraint] = label_selector({"zone": text})
    assert constraint.allows({"zone": matching})
    assert not constraint.allows({"zone": other})
    assert LabelConstraint("zone", "exists").allows({"zone": ""})
    assert not LabelConstraint("zone", "does_not_exist").allows({"zone": ""})


def test_runtime_env_names_directories_to_import_from(tmp_path: Path) -> None:
    package = tmp_path / "some_package"
    package.mkdir()
    env = normalise_runtime_env({"py_modules": [str(package)], "working_dir": str(tmp_path), "pip": None})
    assert env.py_modules == (str(tmp_path),)
    assert env.working_dir == str(tmp_path)
    this = sys.modules["core.options"]
    assert normalise_runtime_env({"py_modules": [this]}).py_modules == (str(Path(str(this.__file__)).parent),)
    with pytest.raises(ValueError, match="there is no"):
        normalise_runtime_env({"py_modules": [str(tmp_path / "absent")]})


def test_the_runtime_env_class_is_a_checked_dict() -> None:
    assert dict(RuntimeEnv(env_vars={"A": "b"}, pip=None)) == {"env_vars": {"A": "b"}}
    with pytest.raises(ValueError, match="not supported yet"):
        RuntimeEnv(conda="env")
