"""What runs inside a trial's process, by itself: metrics, session, runner, trainable classes, failures."""

from __future__ import annotations

import enum
import os
import random
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tune.checkpoint import Checkpoint
from tune.messages import Launch, StopRule, TrialFailed, TrialReported, TrialReturned
from tune.storage import Storage
from tune.trainable import Trainable
from tune.trial_process import session as session_module
from tune.trial_process.failures import failure_of
from tune.trial_process.isolation import Isolation
from tune.trial_process.metrics import Opaque, UnpicklableMetricError, clean, reveal
from tune.trial_process.outbox import Outbox
from tune.trial_process.output import redirected, tail
from tune.trial_process.runner import ProcessSettings, TrialRunner
from tune.trial_process.seeds import Seeder
from tune.trial_process.session import get_checkpoint, get_context, in_trial, report


class Colour(enum.IntEnum):
    RED = 1


# -- output -------------------------------------------------------------------------------------------------------


def test_what_python_prints_goes_to_the_file_and_where_it_went_before(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="boo"), redirected(tmp_path, ("out", "err")):
        print("said")
        kept = sys.stdout
        os.write(1, b"native\n")
        print("warned", end="", file=sys.stderr)
        raise ValueError("boo")
    kept.write("late\n")
    assert (tmp_path / "out").read_text() == "said\nnative\n"
    assert (tmp_path / "err").read_text() == "warned"
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("said\nlate\n", "warned")
    assert sys.stdout is not kept


# -- metrics ------------------------------------------------------------------------------------------------------


def test_plain_metrics_are_copied_and_known_as_plain() -> None:
    metrics = {"a": 1.5, "b": None, "c": "x", "d": True}
    cleaned, plain = clean(metrics)
    assert cleaned == metrics and cleaned is not metrics and plain


@pytest.mark.parametrize(
    ("value", "expected"),
    [(np.float64(0.5), 0.5), (np.int32(3), 3), (np.bool_(True), True), (np.array(2.0), 2.0), (np.str_("x"), "x")],
    ids=repr,
)
def test_scalars_of_numpy_become_pythons(value: Any, expected: Any) -> None:
    cleaned, plain = clean({"x": value})
    assert (type(cleaned["x"]), cleaned["x"], plain) == (type(expected), expected, True)


def test_scalars_of_torch_become_pythons() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is optional and not installed")
    assert clean({"x": torch.tensor(0.5, requires_grad=True)}) == ({"x": 0.5}, True)


def test_other_values_are_pickled_at_once_and_come_back() -> None:
    array, inner = np.arange(3), {"k": [1, (np.float32(0.5),)]}
    cleaned, plain = clean({"array": array, "inner": inner, "colour": Colour.RED, "bytes": b"x"})
    array[:] = 0
    inner["k"].append(2)
    assert not plain and isinstance(cleaned["array"], Opaque)
    back = reveal(cleaned)
    assert back["array"].tolist() == [0, 1, 2]
    assert back["inner"] == {"k": [1, (0.5,)]}
    assert back["colour"] is Colour.RED


def test_the_path_to_what_cannot_be_pickled() -> None:
    class Holder:
        def __init__(self) -> None:
            self.lock = threading.Lock()

    with pytest.raises(UnpicklableMetricError, match=r"metrics\['a'\]\[0\]\.lock cannot be pickled"):
        clean({"a": [Holder()]})


@pytest.mark.parametrize(("metrics", "text"), [(None, "got NoneType: None"), ({2: 1}, "got int: 2")])
def test_what_are_no_metrics(metrics: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        clean(metrics)


# -- outside of a trial -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call", [lambda: report({}), get_checkpoint, get_context], ids=["report", "checkpoint", "context"]
)
def test_outside_of_a_trial(call: Any) -> None:
    assert not in_trial()
    with pytest.raises(RuntimeError, match="called outside of a trial"):
        call()


# -- running ------------------------------------------------------------------------------------------------------


def run(trainable: Any, tmp_path: Path, **fields: Any) -> list[Any]:
    """Run a trial in this thread and return its events."""
    outbox = Outbox(served=False)
    runner = TrialRunner(lambda: trainable, ProcessSettings(), outbox)
    given = {"trial_id": "t", "attempt": 1, "config": {}, "trial_dir": str(tmp_path / "t"), "bundles": ({"CPU": 1.0},)}
    runner.run(Launch(**{**given, **fields}))
    runner.close()
    assert session_module.current is None
    return outbox.take(0).events


def reported(events: list[Any]) -> list[Any]:
    return [r.result for event in events if isinstance(event, TrialReported) for r in event.reports]


def test_a_generator_is_closed_when_its_trial_ends(tmp_path: Path) -> None:
    closed = []

    def train(config: dict[str, Any]) -> Any:
        try:
            while True:
                yield {"x": 1}
        finally:
            closed.append(True)

    events = run(train, tmp_path, stop=StopRule({"training_iteration": 2}))
    assert events[-1] == TrialReturned("t", 1, stopped=True)
    assert closed == [True] and len(reported(events)) == 2


def test_a_yielded_checkpoint_is_kept(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()

    def train(config: dict[str, Any]) -> Any:
        yield {"x": 1}, Checkpoint.from_directory(source)

    (result,) = reported(run(train, tmp_path))
    assert result["checkpoint_dir_name"] == "checkpoint_000000"
    assert (tmp_path / "t" / "checkpoint_000000").is_dir()


def test_a_half_written_checkpoint_of_an_earlier_attempt_is_not_counted(tmp_path: Path) -> None:
    (tmp_path / "t" / ".tmp-1-checkpoint_000004").mkdir(parents=True)
    (tmp_path / "t" / "checkpoint_000002").mkdir()
    source = tmp_path / "source"
    source.mkdir()
    events = run(lambda config: report({}, checkpoint=Checkpoint(source)), tmp_path)
    assert reported(events)[0]["checkpoint_dir_name"] == "checkpoint_000003"


def test_a_report_after_the_end_is_told_to_end_again(tmp_path: Path) -> None:
    told = []

    def train(config: dict[str, Any]) -> None:
        for _ in range(3):
            try:
                report({"x": 1})
            except session_module.TrialStopped as stopped:
                told.append(stopped)

    events = run(train, tmp_path, stop=StopRule({"x": 1}))
    assert len(told) == 3 and len(reported(events)) == 1


def test_a_failing_cleanup_after_the_end_is_a_failure(tmp_path: Path) -> None:
    class Fragile(Trainable):
        def step(self) -> dict[str, Any]:
            return {"done": True}

        def cleanup(self) -> None:
            raise OSError("disk full")

    (*_, last) = run(Fragile, tmp_path)
    assert isinstance(last, TrialFailed) and last.failure.message == "disk full"


def test_a_class_may_save_to_its_own_directory_or_return_something_odd(tmp_path: Path) -> None:
    class Elsewhere(Trainable):
        def step(self) -> dict[str, Any]:
            return {"done": True}

        def save_checkpoint(self, checkpoint_dir: str) -> Any:
            place = Path(self.logdir, "own")
            place.mkdir(exist_ok=True)
            (place / "state").write_text("1")
            return self.config.get("return", place)

    run(Elsewhere, tmp_path)
    assert (tmp_path / "t" / "checkpoint_000000" / "state").read_text() == "1"
    (*_, last) = run(Elsewhere, tmp_path, config={"return": 3})
    assert "must return None, a dict or a path, got int" in last.failure.message


# -- trainables by themselves -------------------------------------------------------------------------------------


class Counter(Trainable):
    def setup(self, config: dict[str, Any]) -> None:
        self.value = config.get("start", 0)
        config.clear()

    def step(self) -> dict[str, Any]:
        self.value += 1
        return {"value": self.value}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        return {"value": self.value}

    def load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.value = checkpoint["value"]


def test_a_class_works_without_a_sweep(tmp_path: Path) -> None:
    one = Counter({"start": 5})
    assert one.train()["value"] == 6
    result = one.train()
    assert (result["training_iteration"], result["done"], one.iteration) == (2, False, 2)
    checkpoint = one.save(tmp_path / "saved")
    other = Counter()
    other.restore(checkpoint)
    assert other.train()["value"] == 8 and other.training_iteration == 3
    other.restore(str(tmp_path / "saved"))
    assert other.value == 7
    assert one.config == {"start": 5}, "setup() has a copy"
    assert (one.trial_id, one.trial_name, one.trial_resources.total) == ("default", "default", {"CPU": 1.0})
    assert Path(one.logdir).is_dir() and one.logdir == one.logdir
    assert not one.reset({"start": 1})
    one.stop()


def test_what_a_class_must_define() -> None:
    bare = Trainable()
    for call, name in [(bare.step, "step"), (bare.save, "save_checkpoint"), (lambda: bare.load_checkpoint({}), "load")]:
        with pytest.raises(NotImplementedError, match=name):
            call()
    assert not Trainable.can_save() and Counter.can_save()
    assert Trainable.default_resource_request({}) is None and Trainable.resource_help({}) == ""
    assert bare.export_model("onnx", "/tmp") == {}


# -- the process --------------------------------------------------------------------------------------------------


def test_what_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    isolation = Isolation()
    path, directory, streams = list(sys.path), Path.cwd(), (sys.stdout, sys.stderr)
    os.environ["LEFT"] = "1"
    monkeypatch.delenv("HOME", raising=False)
    os.chdir("/")
    sys.path.append("/left")
    sys.stdout = sys.stderr = None  # type: ignore[assignment]
    assert isolation.restore() == ""
    assert (Path.cwd(), sys.path, (sys.stdout, sys.stderr)) == (directory, path, streams)
    assert "LEFT" not in os.environ and "HOME" in os.environ


def test_seeds() -> None:
    seeder = Seeder()
    draws = []
    for seed in (1, 1, 2, None, None):
        seeder.begin(seed)
        draws.append((random.random(), float(np.random.rand())))
        seeder.end()
    assert draws[0] == draws[1]
    assert len(set(draws)) == 4
    assert seeder not in sys.meta_path


def test_the_last_lines_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "err").write_text("\n".join(map(str, range(1000))))
    assert tail(tmp_path / "err", lines=2) == "998\n999"
    assert tail(tmp_path / "none") == ""


def test_a_failure_keeps_the_exception_if_it_can() -> None:
    try:
        raise KeyError("missing")
    except KeyError as error:
        failure = failure_of(error)
    assert (failure.error_type, failure.message) == ("KeyError", "'missing'")
    assert failure.pickled is not None and "missing" in failure.traceback


def test_the_context(tmp_path: Path) -> None:
    seen: list[Any] = []
    run(lambda config: seen.append(get_context()), tmp_path, trial_name="name", experiment_name="e", seed=4)
    (context,) = seen
    assert isinstance(context.get_storage(), Storage)
    assert (context.get_trial_name(), context.get_experiment_name(), context.get_seed()) == ("name", "e", 4)
    assert repr(context) == "TrialContext('name')"
