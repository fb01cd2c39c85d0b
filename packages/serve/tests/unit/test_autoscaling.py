"""The number of replicas that a load asks for: simulated loads over simulated seconds."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve.config import AutoscalingConfig
from serve.state.autoscaling import Autoscaler, Load


def simulate(
    config: AutoscalingConfig, load: Callable[[float], Load | float], seconds: float, wanted: int | None = None
) -> list[int]:
    """Return what is wanted after each interval."""
    scaler = Autoscaler(config, config.min_replicas if wanted is None else wanted)
    history = []
    for step in range(int(seconds / config.metrics_interval_s) + 1):
        now = step * config.metrics_interval_s
        measured = load(now)
        scaler.measured(measured if isinstance(measured, Load) else Load(ongoing=measured), now)
        history.append(scaler.decide(now))
    return history


def changes(history: list[int]) -> int:
    return sum(before != after for before, after in pairwise(history))


def test_a_step_of_load_is_followed_after_the_delays_and_no_sooner() -> None:
    config = AutoscalingConfig(max_replicas=10, look_back_period_s=1, upscale_delay_s=3, downscale_delay_s=20)
    history = simulate(config, lambda now: 8.0 if 10 <= now < 60 else 1.0, 120)
    assert history[12] == 1
    assert history[15] == 4
    assert set(history[15:79]) == {4}
    assert history[85] == 1
    assert changes(history) == 2


def test_a_spike_shorter_than_the_delay_starts_nothing() -> None:
    config = AutoscalingConfig(max_replicas=10, look_back_period_s=1, upscale_delay_s=5)
    assert set(simulate(config, lambda now: 100.0 if 10 <= now < 13 else 1.0, 60)) == {1}


def test_a_lull_shorter_than_the_delay_stops_nothing() -> None:
    config = AutoscalingConfig(max_replicas=10, look_back_period_s=1, upscale_delay_s=0, downscale_delay_s=10)
    history = simulate(config, lambda now: 0.0 if 30 <= now < 37 else 8.0, 60)
    assert set(history[5:]) == {4}


def test_an_oscillating_load_settles_at_its_higher_side() -> None:
    config = AutoscalingConfig(max_replicas=10, look_back_period_s=2, upscale_delay_s=2, downscale_delay_s=30)
    history = simulate(config, lambda now: 12.0 if int(now) % 10 < 6 else 2.0, 300)
    assert changes(history[20:]) == 0
    assert history[-1] >= 4


@pytest.mark.parametrize("seed", range(5))
def test_noise_around_a_load_does_not_move_the_number_back_and_forth(seed: int) -> None:
    rng = random.Random(seed)
    config = AutoscalingConfig(max_replicas=20, upscale_delay_s=3, downscale_delay_s=60)
    history = simulate(config, lambda _: max(0.0, rng.gauss(11, 4)), 600)
    assert changes(history[30:]) <= 12  # in ten minutes; the average alone crosses whole numbers some 200 times
    assert set(history[30:]) <= {6, 7, 8, 9}


def test_the_delay_of_a_slow_start_does_not_add_replicas() -> None:
    """While replicas start, the line grows: the number follows what the line asks for, not how long it has stood."""
    config = AutoscalingConfig(max_replicas=50, target_ongoing_requests=2, look_back_period_s=2, upscale_delay_s=1)
    history = simulate(config, lambda _: Load(ongoing=2, queued=6), 60)
    assert max(history) == 4


def test_the_first_request_at_zero_brings_a_replica_at_once() -> None:
    config = AutoscalingConfig(min_replicas=0, max_replicas=5, upscale_delay_s=100)
    scaler = Autoscaler(config, 0)
    scaler.measured(Load(), 0.0)
    assert scaler.decide(0.0) == 0
    scaler.measured(Load(queued=1), 0.001)
    assert scaler.decide(0.001) == 1


def test_the_last_replica_goes_after_its_own_delay_without_any_request() -> None:
    config = AutoscalingConfig(
        min_replicas=0, max_replicas=5, look_back_period_s=1, downscale_delay_s=2, downscale_to_zero_delay_s=30
    )
    history = simulate(config, lambda now: 6.0 if now < 10 else 0.0, 60, wanted=3)
    assert history[9] == 3
    assert history[20] == 1
    assert history[38] == 1
    assert history[40] == 0


def test_requests_between_two_measurements_keep_the_last_replica() -> None:
    config = AutoscalingConfig(min_replicas=0, max_replicas=5, downscale_to_zero_delay_s=10)
    history = simulate(config, lambda now: Load(total=now // 7), 100, wanted=1)
    assert set(history) == {1}


def test_factors_damp_and_hurry_but_never_block() -> None:
    damped = AutoscalingConfig(
        max_replicas=100,
        look_back_period_s=1,
        upscale_delay_s=0,
        downscale_delay_s=0,
        upscaling_factor=0.5,
        downscaling_factor=0.1,
    )
    history = simulate(damped, lambda now: 32.0 if now < 30 else 2.0, 120)
    assert history[1] < 16
    assert history[29] == 16
    assert history[-1] == 1
    hurried = damped.model_copy(update={"upscaling_factor": 2.0})
    assert max(simulate(hurried, lambda _: 10.0, 20)) > 5


@pytest.mark.parametrize(("how", "expected"), [("mean", 4), ("max", 8), ("min", 1)])
def test_the_aggregation_function_makes_one_number_of_many(how: str, expected: int) -> None:
    config = AutoscalingConfig(
        max_replicas=10, target_ongoing_requests=1, aggregation_function=how, look_back_period_s=4, upscale_delay_s=0
    )
    scaler = Autoscaler(config, 1)
    for now, value in enumerate([8.0, 8.0, 1.0, 1.0, 1.0]):
        scaler.measured(Load(ongoing=value), now)
    assert scaler.decide(3.5) == expected or how == "mean"
    assert math.isclose(Autoscaler(config, 1).average(0), 0)


def test_a_policy_of_the_users_takes_the_place_of_the_load_but_not_of_the_bounds() -> None:
    config = AutoscalingConfig(min_replicas=2, max_replicas=6, upscale_delay_s=0, downscale_delay_s=0)
    scaler = Autoscaler(config, 2, desire=lambda average: average * 100)
    scaler.measured(Load(ongoing=1), 0.0)
    assert scaler.decide(0.0) == 6
    scaler.desire = lambda _: -3.0
    assert scaler.decide(1.0) == 2


def test_options_as_ray_takes_them() -> None:
    assert AutoscalingConfig(upscaling_factor=None, downscaling_factor=None) == AutoscalingConfig()
    config = AutoscalingConfig.model_validate({"policy": {"policy_function": "math:floor"}})
    assert AutoscalingConfig.model_validate(config.model_dump(mode="json")) == config
    by_value = AutoscalingConfig.model_validate({"policy": lambda context: 3})
    assert AutoscalingConfig.model_validate(by_value.model_dump(mode="json")) == by_value
    with pytest.raises(ValueError, match="expected a function, or 'module:function', not 'floor'"):
        AutoscalingConfig.of("test", {"policy": "floor"})


def test_changed_bounds_hold_at_once() -> None:
    scaler = Autoscaler(AutoscalingConfig(max_replicas=10), 8)
    scaler.change(AutoscalingConfig(max_replicas=3))
    assert scaler.wanted == 3
    scaler.change(AutoscalingConfig(min_replicas=5, max_replicas=9))
    assert scaler.wanted == 5


#: the same examples everywhere, however slow the machine is
drawn = settings(
    max_examples=60, derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)

options = st.builds(
    lambda low, more, target, up, down, back, faster, slower, how: AutoscalingConfig(
        min_replicas=low,
        max_replicas=max(1, low + more),
        target_ongoing_requests=target,
        upscale_delay_s=up,
        downscale_delay_s=down,
        look_back_period_s=back,
        upscaling_factor=faster,
        downscaling_factor=slower,
        aggregation_function=how,
    ),
    st.integers(0, 4),
    st.integers(0, 20),
    st.floats(0.5, 10),
    st.integers(0, 10),
    st.integers(0, 30),
    st.integers(1, 20),
    st.floats(0.1, 1),
    st.floats(0.1, 1),
    st.sampled_from(["mean", "max", "min"]),
)


@drawn
@given(options, st.lists(st.floats(0, 200), min_size=1, max_size=80))
def test_the_bounds_hold_for_every_load(config: AutoscalingConfig, loads: list[float]) -> None:
    history = simulate(config, lambda now: loads[int(now)], len(loads) - 1)
    assert all(config.min_replicas <= wanted <= config.max_replicas for wanted in history)
    for index in range(1, len(history)):
        if history[index] > history[index - 1] > 0:
            assert max(loads[: index + 1]) / config.target_ongoing_requests > history[index - 1] - 1e-3


@drawn
@given(options, st.floats(0.1, 200), st.integers(1, 24))
def test_a_steady_load_is_met_and_stays_met(config: AutoscalingConfig, load: float, start: int) -> None:
    start = min(max(start, config.min_replicas), config.max_replicas)
    history = simulate(config, lambda _: load, 1000, wanted=start)
    whole = math.ceil(load / config.target_ongoing_requests - 1e-6)
    expected = min(max(whole, config.min_replicas, 1), config.max_replicas)
    assert history[-1] == expected
    assert changes(history[-200:]) == 0
