"""The backend by itself: trials in slots, what they report, how they are told to end, what a slot restores."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import psutil
import pytest

import core
from tests.eventually import eventually
from tests.tune.small_driver import drive, failure, launch, results, values
from tune.backend.core_backend import CoreBackend, InlineBackend, session_backend
from tune.checkpoint import Checkpoint
from tune.messages import (
    Action,
    Event,
    Reported,
    StopRule,
    Sync,
    TrialFailed,
    TrialPaused,
    TrialReported,
    TrialReturned,
    TrialSaved,
    TrialStarted,
    Verdict,
)
from tune.trainable import Trainable
from tune.trial import FailureKind, ResourceRequest
from tune.trial_process.session import TrialStopped, get_checkpoint, get_context, report

pytestmark = pytest.mark.usefixtures("session")

Make = Callable[..., CoreBackend]


@pytest.fixture
def make() -> Iterator[Make]:
    """Make backends that are closed after the test."""
    made: list[CoreBackend] = []

    def backend(trainable: Any, *args: Any, **options: Any) -> CoreBackend:
        made.append(CoreBackend(trainable, *args, **options))
        return made[-1]

    yield backend
    for one in made:
        one.close()


def count(config: dict[str, Any]) -> None:
    for step in range(config["steps"]):
        report({"step": step, "x": config.get("x", 0)})


def forever(config: dict[str, Any]) -> None:
    while True:
        report({"pid": os.getpid()})


# -- results ------------------------------------------------------------------------------------------------------


def test_a_trial_reports_and_returns(make: Make, tmp_path: Path) -> None:
    events = drive(make(count), [launch(tmp_path, config={"steps": 3, "x": 7})])["t0"]
    assert isinstance(events[0], TrialStarted)
    assert events[-1] == TrialReturned("t0", 1, stopped=False)
    assert values(events, "step") == [0, 1, 2]
    assert values(events, "x") == [7, 7, 7]
    assert values(events, "training_iteration") == [1, 2, 3]
    assert values(events, "iterations_since_restore") == [1, 2, 3]
    last = results(events)[-1]
    assert last["time_total_s"] == pytest.approx(sum(values(events, "time_this_iter_s")))
    assert isinstance(last["timestamp"], int)


def test_the_results_go_on_from_where_the_trial_was(make: Make, tmp_path: Path) -> None:
    events = drive(make(count), [launch(tmp_path, config={"steps": 1}, iteration=10, time_total_s=100.0)])["t0"]
    (result,) = results(events)
    assert result["training_iteration"] == 11
    assert result["iterations_since_restore"] == 1
    assert result["time_total_s"] > 100
    assert result["time_since_restore"] < 100


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda config: {"loss": 1.5}, [1.5]),
        (lambda config: ({"loss": float(i)} for i in range(3)), [0.0, 1.0, 2.0]),
        (lambda config: None, []),
    ],
    ids=["returns", "yields", "silent"],
)
def test_what_a_function_returns_or_yields_is_reported(
    make: Make, tmp_path: Path, function: Any, expected: list[float]
) -> None:
    events = drive(make(function), [launch(tmp_path)])["t0"]
    assert values(events, "loss") == expected
    assert events[-1] == TrialReturned("t0", 1)


def test_a_number_is_a_result(make: Make, tmp_path: Path) -> None:
    assert values(drive(make(lambda config: 0.25), [launch(tmp_path)])["t0"], "_metric") == [0.25]


def test_a_function_that_returns_something_else_fails(make: Make, tmp_path: Path) -> None:
    error = failure(drive(make(lambda config: "good"), [launch(tmp_path)])["t0"])
    assert error.error_type == "TypeError"
    assert "returned str: 'good'" in error.message


def test_values_arrive_as_what_they_were(make: Make, tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> None:
        array = numpy.arange(3)
        report(
            {"np": numpy.float32(0.5), "int": numpy.int64(3), "array": array, "nested": {"a": (1, [numpy.float64(2)])}}
        )
        array[:] = 9  # after the report: must not show
        report({"big": 2**70, "none": None, "nan": float("nan"), "text": "\ud800"})

    first, second = results(drive(make(train), [launch(tmp_path)])["t0"])
    assert (type(first["np"]), first["np"], type(first["int"])) == (float, 0.5, int)
    assert first["array"].tolist() == [0, 1, 2]
    assert first["nested"] == {"a": (1, [2.0])}
    assert (second["big"], second["none"], second["text"]) == (2**70, None, "\ud800")
    assert second["nan"] != second["nan"]


def test_many_results_of_several_trials_keep_their_order(make: Make, tmp_path: Path) -> None:
    backend = make(count)
    many = drive(backend, [launch(tmp_path, f"t{i}", config={"steps": 3000}) for i in range(4)])
    for events in many.values():
        assert values(events, "step") == list(range(3000))


# -- verdicts -----------------------------------------------------------------------------------------------------


def test_a_trial_waits_where_it_is_told_to(make: Make, tmp_path: Path) -> None:
    asked: list[int] = []

    def decide(name: str, last: Reported) -> Verdict:
        asked.append(last.result["training_iteration"])
        return Verdict(Action.CONTINUE, Sync(at=9)) if len(asked) == 1 else Verdict(Action.STOP)

    events = drive(make(forever), [launch(tmp_path, sync=Sync(at=3))], decide)["t0"]
    assert asked == [3, 9]
    assert values(events, "training_iteration") == list(range(1, 10))
    assert events[-1] == TrialReturned("t0", 1, stopped=True)


def test_a_stop_rule_ends_a_trial_without_asking(make: Make, tmp_path: Path) -> None:
    stop = StopRule({"step": 4})
    events = drive(make(count), [launch(tmp_path, config={"steps": 100}, stop=stop)])["t0"]
    assert values(events, "step") == [0, 1, 2, 3, 4]
    assert events[-1] == TrialReturned("t0", 1, stopped=True)


def test_done_among_the_metrics_ends_a_trial(make: Make, tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> None:
        report({"x": 1, "done": True})
        report({"x": 2})

    events = drive(make(train), [launch(tmp_path)])["t0"]
    assert values(events, "x") == [1]
    assert events[-1] == TrialReturned("t0", 1, stopped=False)


def test_a_running_trial_can_be_stopped_and_its_code_cleans_up(make: Make, tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> None:
        try:
            forever(config)
        except Exception as error:
            raise AssertionError("TrialStopped is no Exception") from error
        finally:
            Path("cleaned").touch()

    backend = make(train)
    stopped: list[str] = []

    def stop(event: Event) -> None:
        if isinstance(event, TrialReported) and not stopped:
            stopped.append(event.trial_id)
            backend.answer("t0", Verdict(Action.STOP))

    events = drive(backend, [launch(tmp_path)], on_event=stop)["t0"]
    assert events[-1] == TrialReturned("t0", 1, stopped=True)
    assert (tmp_path / "t0" / "cleaned").exists()


def test_a_trial_that_raises_because_it_was_stopped_has_ended_well(make: Make, tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> None:
        try:
            forever(config)
        except TrialStopped as stopped:
            raise RuntimeError("wrapped by a library") from stopped

    stop = StopRule({"training_iteration": 2})
    assert drive(make(train), [launch(tmp_path, stop=stop)])["t0"][-1] == TrialReturned("t0", 1, stopped=True)


def test_a_killed_trial_returns_and_its_process_is_gone(make: Make, tmp_path: Path) -> None:
    def hang(config: dict[str, Any]) -> None:
        report({"pid": os.getpid()})
        threading.Event().wait()

    backend = make(hang)
    pids: list[int] = []

    def kill(event: Event) -> None:
        if isinstance(event, TrialReported):
            pids.append(event.reports[0].result["pid"])
            backend.kill("t0")

    events = drive(backend, [launch(tmp_path)], on_event=kill)["t0"]
    assert events[-1] == TrialReturned("t0", 1, stopped=True)
    eventually(lambda: not psutil.pid_exists(pids[0]))


def test_a_launch_that_waits_for_room_can_be_killed(make: Make, tmp_path: Path) -> None:
    backend = make(forever)
    for number in range(3):
        backend.start(launch(tmp_path, f"t{number}"))
    backend.kill("t2")
    assert TrialReturned("t2", 1, stopped=True) in backend.poll(0)


# -- checkpoints --------------------------------------------------------------------------------------------------


def saving(config: dict[str, Any]) -> None:
    checkpoint = get_checkpoint()
    start = 0
    if checkpoint is not None:
        with checkpoint.as_directory() as directory:
            start = int(Path(directory, "state").read_text())
    for step in range(start, start + 3):
        Path("mine").mkdir(exist_ok=True)
        Path("mine/state").write_text(str(step + 1))
        report({"step": step}, checkpoint=Checkpoint.from_directory("mine"))


def test_a_function_goes_on_from_its_checkpoint(make: Make, tmp_path: Path) -> None:
    backend = make(saving)
    events = drive(backend, [launch(tmp_path)])["t0"]
    records = [r.checkpoint for e in events if isinstance(e, TrialReported) for r in e.reports]
    assert [(record.name, record.iteration) for record in records if record] == [
        ("checkpoint_000000", 1),
        ("checkpoint_000001", 2),
        ("checkpoint_000002", 3),
    ]
    assert records[0] is not None and records[0].metrics["step"] == 0
    assert values(events, "checkpoint_dir_name")[0] == "checkpoint_000000"
    newest = str(tmp_path / "t0" / "checkpoint_000002")
    again = drive(backend, [launch(tmp_path, attempt=2, checkpoint=newest, iteration=3)])["t0"]
    assert values(again, "step") == [3, 4, 5]
    assert values(again, "checkpoint_dir_name") == [f"checkpoint_00000{i}" for i in (3, 4, 5)]
    backend.delete_checkpoint(str(tmp_path / "t0"), "checkpoint_000000")
    backend.delete_checkpoint(str(tmp_path / "t0"), "checkpoint_000000")
    assert not (tmp_path / "t0" / "checkpoint_000000").exists()


class Counter(Trainable):
    """Counts; saves as a dictionary."""

    def setup(self, config: dict[str, Any]) -> None:
        self.value = config.get("start", 0)
        self.config_seen = config

    def step(self) -> dict[str, Any]:
        self.value += 1
        return {"value": self.value, "iteration": self.training_iteration, "id": self.trial_id, "pid": os.getpid()}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        return {"value": self.value}

    def load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.value = checkpoint["value"]

    def cleanup(self) -> None:
        Path(self.logdir, "cleaned").touch()


def test_a_class_steps_until_it_is_stopped_and_saves_at_the_end(make: Make, tmp_path: Path) -> None:
    stop = StopRule({"training_iteration": 5})
    events = drive(make(Counter), [launch(tmp_path, stop=stop, checkpoint_frequency=2)])["t0"]
    assert values(events, "value") == [1, 2, 3, 4, 5]
    assert values(events, "id") == ["t0"] * 5
    assert values(events, "iteration") == [0, 1, 2, 3, 4]
    saved = [r.checkpoint.iteration for e in events if isinstance(e, TrialReported) for r in e.reports if r.checkpoint]
    assert saved == [2, 4]
    (end,) = [event for event in events if isinstance(event, TrialSaved)]
    assert (end.checkpoint.iteration, end.checkpoint.metrics["value"]) == (5, 5)
    assert events[-1] == TrialReturned("t0", 1, stopped=True)
    assert (tmp_path / "t0" / "cleaned").exists()


def test_a_class_saves_at_the_end_unless_told_not_to(make: Make, tmp_path: Path) -> None:
    stop = StopRule({"training_iteration": 1})
    events = drive(make(Counter), [launch(tmp_path, stop=stop, checkpoint_at_end=False)])["t0"]
    assert not [event for event in events if isinstance(event, TrialSaved)]


def test_a_paused_class_goes_on_where_it_was(make: Make, tmp_path: Path) -> None:
    backend = make(Counter)

    def pause(name: str, last: Reported) -> Verdict:
        return Verdict(Action.PAUSE)

    events = drive(backend, [launch(tmp_path, sync=Sync(at=3))], pause)["t0"]
    (saved,) = [event for event in events if isinstance(event, TrialSaved)]
    assert events[-1] == TrialPaused("t0", 1)
    path = str(tmp_path / "t0" / saved.checkpoint.name)
    stop = StopRule({"training_iteration": 5})
    again = drive(backend, [launch(tmp_path, attempt=2, checkpoint=path, iteration=3, stop=stop)])["t0"]
    assert values(again, "value") == [4, 5]
    assert values(again, "training_iteration") == [4, 5]


def test_a_class_saves_when_it_is_told_to_and_goes_on(make: Make, tmp_path: Path) -> None:
    def decide(name: str, last: Reported) -> Verdict:
        return Verdict(Action.SAVE) if last.result["value"] == 2 else Verdict(Action.CONTINUE, Sync(every=True))

    stop = StopRule({"training_iteration": 3})
    events = drive(
        make(Counter), [launch(tmp_path, sync=Sync(every=True), stop=stop, checkpoint_at_end=False)], decide
    )["t0"]
    (saved,) = [event.checkpoint.iteration for event in events if isinstance(event, TrialSaved)]
    assert saved == 2
    assert values(events, "value") == [1, 2, 3]


class Resettable(Counter):
    """Serves several trials."""

    setups = 0

    def setup(self, config: dict[str, Any]) -> None:
        type(self).setups += 1
        super().setup(config)

    def step(self) -> dict[str, Any]:
        return super().step() | {"setups": type(self).setups, "start": self.config["start"]}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.value = new_config["start"]
        return True


def test_an_instance_that_can_be_reset_serves_the_next_trial(make: Make, tmp_path: Path) -> None:
    backend = make(Resettable)
    stop = StopRule({"training_iteration": 2})
    for start in (10, 20):
        events = drive(backend, [launch(tmp_path, f"t{start}", config={"start": start}, stop=stop)])[f"t{start}"]
        assert values(events, "value") == [start + 1, start + 2]
        assert values(events, "start") == [start, start]
        assert values(events, "setups") == [1, 1]
        assert values(events, "id")[0] == f"t{start}"
    backend.close()
    assert not (tmp_path / "t10" / "cleaned").exists()
    assert (tmp_path / "t20" / "cleaned").exists()


def test_a_class_exports_its_model(make: Make, tmp_path: Path) -> None:
    class Exporting(Counter):
        def _export_model(self, export_formats: list[str], export_dir: str) -> dict[str, str]:
            for name in export_formats:
                Path(export_dir, f"model.{name}").touch()
            return {}

    stop = StopRule({"training_iteration": 1})
    drive(make(Exporting, export_formats=["onnx", "pt"]), [launch(tmp_path, stop=stop)])
    assert {"model.onnx", "model.pt"} <= {file.name for file in (tmp_path / "t0").iterdir()}


# -- the process --------------------------------------------------------------------------------------------------


def where(config: dict[str, Any]) -> None:
    context = get_context()
    report(
        {
            "pid": os.getpid(),
            "main": threading.current_thread() is threading.main_thread(),
            "cwd": str(Path.cwd()),
            "original": os.environ["TUNE_ORIG_WORKING_DIR"],
            "context": [
                context.get_trial_id(),
                context.get_trial_name(),
                context.get_experiment_name(),
                context.get_trial_dir(),
                context.get_storage().url,
                context.get_seed(),
                context.get_metadata(),
                context.get_trial_resources().total,
            ],
        }
    )


def test_a_trial_knows_itself_and_runs_in_the_main_thread_of_its_directory(make: Make, tmp_path: Path) -> None:
    (result,) = results(drive(make(where), [launch(tmp_path, seed=3, metadata={"a": 1})])["t0"])
    directory = str(tmp_path / "t0")
    assert result["main"]
    assert result["cwd"] == directory
    assert result["original"] == str(Path.cwd())
    assert result["context"] == ["t0", "t0", "experiment", directory, directory, 3, {"a": 1}, {"CPU": 1.0}]


def test_trials_can_stay_in_the_directory_of_the_driver(make: Make, tmp_path: Path) -> None:
    (result,) = results(drive(make(where, chdir_to_trial_dir=False), [launch(tmp_path)])["t0"])
    assert result["cwd"] == str(Path.cwd())


@pytest.mark.parametrize("reuse", [True, False])
def test_a_process_serves_many_trials_or_one(make: Make, tmp_path: Path, reuse: bool) -> None:
    backend = make(where, reuse_actors=reuse)
    many = drive(backend, [launch(tmp_path, f"t{i}") for i in range(8)])
    pids = {pid for events in many.values() for pid in values(events, "pid")}
    assert len(pids) == (2 if reuse else 8)


def test_a_warm_process_takes_back_what_a_trial_changed(make: Make, tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> None:
        import sys

        seen = {
            "variable": os.environ.get("LEFT_BEHIND"),
            "path": "/left/behind" in sys.path,
            "handler": signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN,
            "random": random.random(),
        }
        os.environ["LEFT_BEHIND"] = "yes"
        sys.path.append("/left/behind")
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        random.seed(0)
        sys.stdout = None  # type: ignore[assignment]
        report(seen | {"pid": os.getpid()})

    backend = make(train)
    rounds = [results(drive(backend, [launch(tmp_path, f"t{i}")])[f"t{i}"])[0] for i in range(3)]
    assert len({result["pid"] for result in rounds}) == 1
    assert len({result["random"] for result in rounds}) == 3
    assert all((r["variable"], r["path"], r["handler"]) == (None, False, False) for r in rounds)


def test_a_seed_fixes_the_global_generators_also_of_what_the_trial_imports(make: Make, tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> None:
        import numpy as np

        report({"random": random.random(), "numpy": float(np.random.rand())})

    def draw(seed: int | None, name: str) -> tuple[float, float]:
        backend = make(train)
        (result,) = results(drive(backend, [launch(tmp_path, name, seed=seed)])[name])
        backend.close()
        return result["random"], result["numpy"]

    assert draw(1, "a") == draw(1, "b")
    assert draw(1, "c")[1] != draw(2, "d")[1]
    assert draw(None, "e")[0] != draw(None, "f")[0]


def test_a_thread_that_lives_on_spoils_the_process(make: Make, tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> None:
        if config["leave"]:
            threading.Thread(target=threading.Event().wait).start()
        report({"pid": os.getpid()})

    backend = make(train)
    pids = []
    for number, leave in enumerate([False, True, False]):
        events = drive(backend, [launch(tmp_path, f"t{number}", config={"leave": leave})])[f"t{number}"]
        assert isinstance(events[-1], TrialReturned)
        pids += values(events, "pid")
    assert pids[0] == pids[1] != pids[2]


def test_a_thread_of_an_earlier_trial_cannot_report_for_the_next(make: Make, tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> None:
        if config["first"]:

            def late() -> None:
                eventually(lambda: Path(config["go"]).exists())
                try:
                    report({"intruder": True})
                except RuntimeError as error:
                    Path(config["go"] + ".refused").write_text(str(error))

            threading.Thread(target=late, daemon=True).start()
            return
        Path(config["go"]).touch()
        eventually(lambda: Path(config["go"] + ".refused").exists())
        report({"x": 1})

    backend = make(train)
    go = str(tmp_path / "go")
    drive(backend, [launch(tmp_path, "t0", config={"first": True, "go": go})])
    (result,) = results(drive(backend, [launch(tmp_path, "t1", config={"first": False, "go": go})])["t1"])
    assert "intruder" not in result
    assert "left behind" in Path(go + ".refused").read_text()


def test_threads_of_a_trial_may_report(make: Make, tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> None:
        threads = [threading.Thread(target=report, args=({"n": n},)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    events = drive(make(train), [launch(tmp_path)])["t0"]
    assert sorted(values(events, "n")) == [0, 1, 2, 3]
    assert values(events, "training_iteration") == [1, 2, 3, 4]


@pytest.mark.parametrize("names", [True, "all.txt", ("out.txt", "err.txt")])
def test_what_a_trial_prints_goes_to_its_files(make: Make, tmp_path: Path, names: Any) -> None:
    def train(config: dict[str, Any]) -> None:
        print("to stdout", config["n"])
        os.write(2, b"to stderr\n")
        report({"n": 1})

    backend = make(train, log_to_file=names)
    drive(backend, [launch(tmp_path, f"t{n}", config={"n": n}) for n in range(3)])
    out, err = {True: ("stdout", "stderr"), "all.txt": ("all.txt",) * 2}.get(names, ("out.txt", "err.txt"))
    for n in range(3):
        assert f"to stdout {n}" in (tmp_path / f"t{n}" / out).read_text()
        assert "to stderr" in (tmp_path / f"t{n}" / err).read_text()


# -- resources ----------------------------------------------------------------------------------------------------


def test_capacity(make: Make) -> None:
    backend = make(count)
    assert backend.capacity(ResourceRequest(({"CPU": 1.0},))) == 2
    assert backend.capacity(ResourceRequest(({"CPU": 0.5},))) == 4
    assert backend.capacity(ResourceRequest(({"CPU": 0.1},))) == 20
    assert backend.capacity(ResourceRequest(({"CPU": 1.0}, {"CPU": 1.0}))) == 1
    assert backend.capacity(ResourceRequest(({"GPU": 1.0},))) == 0
    assert backend.capacity(ResourceRequest(({"CPU": 3.0},))) == 0
    assert backend.capacity(ResourceRequest(({},))) > 2
    assert backend.capacity(ResourceRequest(({"CPU": 1.0}, {"CPU": 1.0}), "STRICT_SPREAD")) == 0
    assert backend.cluster()["CPU"] == 2


@core.remote
def double(x: int) -> int:
    return 2 * x


def test_trials_that_fill_the_machine_may_submit_tasks(make: Make, tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> None:
        report({"x": sum(core.get([double.remote(i) for i in range(5)]))})

    many = drive(make(train), [launch(tmp_path, f"t{i}") for i in range(4)])
    assert [values(events, "x") for events in many.values()] == [[20]] * 4


def test_a_trial_may_have_several_bundles(make: Make, tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> None:
        report({"x": core.get(double.remote(4)), "resources": get_context().get_trial_resources().total})

    events = drive(make(train), [launch(tmp_path, bundles=({"CPU": 1.0}, {"CPU": 0.5}))])["t0"]
    assert values(events, "resources") == [{"CPU": 1.5}]


@pytest.mark.init(num_cpus=2, num_gpus=2, resources={"lamp": 1})
def test_a_trial_gets_its_gpus_and_custom_resources(make: Make, tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> None:
        assigned = core.get_runtime_context().get_assigned_resources()
        report({"gpus": os.environ.get("CUDA_VISIBLE_DEVICES"), "lamp": assigned.get("lamp")})

    backend = make(train)
    many = drive(backend, [launch(tmp_path, f"t{i}", bundles=({"CPU": 1.0, "GPU": 1.0},)) for i in range(2)])
    assert {values(events, "gpus")[0] for events in many.values()} == {"0", "1"}
    events = drive(backend, [launch(tmp_path, "lit", bundles=({"lamp": 1.0},))])["lit"]
    assert values(events, "lamp") == [1.0]


def test_idle_slots_make_room_for_another_shape(make: Make, tmp_path: Path) -> None:
    backend = make(where)
    drive(backend, [launch(tmp_path, f"t{i}") for i in range(2)])
    (events,) = drive(backend, [launch(tmp_path, "wide", bundles=({"CPU": 2.0},))]).values()
    assert isinstance(events[-1], TrialReturned)
    drive(backend, [launch(tmp_path, f"u{i}") for i in range(2)])


def test_idle_slots_give_their_resources_back(make: Make, tmp_path: Path) -> None:
    backend = make(where, idle_s=0.05)
    drive(backend, [launch(tmp_path)])

    def given_back() -> bool:
        backend.poll(0.01)
        return core.available_resources().get("CPU") == 2

    eventually(given_back)


def test_close_gives_everything_back_and_is_idempotent(make: Make, tmp_path: Path) -> None:
    backend = make(forever)
    pids: set[int] = set()
    for number in range(3):
        backend.start(launch(tmp_path, f"t{number}"))
    while len(pids) < 2:
        pids |= {event.pid for event in backend.poll(1) if isinstance(event, TrialStarted)}
    backend.close()
    backend.close()
    eventually(lambda: not any(psutil.pid_exists(pid) for pid in pids))
    eventually(lambda: core.available_resources().get("CPU") == 2)


def test_the_trainable_travels_once(make: Make, tmp_path: Path) -> None:
    data = numpy.arange(100_000)

    def train(config: dict[str, Any]) -> None:
        report({"sum": int(data.sum()), "writeable": data.flags.writeable})

    many = drive(make(train), [launch(tmp_path, f"t{i}") for i in range(4)])
    # Read-only: the processes read the one copy in the object store.
    assert [results(events)[0]["writeable"] for events in many.values()] == [False] * 4


# -- the inline engine --------------------------------------------------------------------------------------------


@pytest.mark.init(engine="inline")
@pytest.mark.parametrize("sync", [Sync(), Sync(every=True)], ids=["free", "asked"])
def test_trials_run_in_this_process(tmp_path: Path, sync: Sync) -> None:
    backend = session_backend(where)
    assert isinstance(backend, InlineBackend)
    assert backend.capacity(ResourceRequest()) == 1
    before = Path.cwd()
    many = drive(backend, [launch(tmp_path, f"t{i}", sync=sync) for i in range(3)])
    assert {values(events, "pid")[0] for events in many.values()} == {os.getpid()}
    assert {values(events, "main")[0] for events in many.values()} == {not sync.every}
    assert Path.cwd() == before
    backend.close()


@pytest.mark.init(engine="inline")
def test_an_inline_trial_obeys_and_fails_as_others_do(tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> None:
        report({"x": 1})
        if config["fail"]:
            raise ValueError("no")
        forever(config)

    backend = session_backend(train)
    failed = launch(tmp_path, "t0", config={"fail": True})
    stopped = launch(tmp_path, "t1", config={"fail": False}, sync=Sync(at=3))
    many = drive(backend, [failed, stopped], lambda name, last: Verdict(Action.STOP))
    assert isinstance(many["t0"][-1], TrialFailed)
    assert failure(many["t0"]).kind is FailureKind.RAISED
    assert many["t1"][-1] == TrialReturned("t1", 1, stopped=True)
    backend.start(launch(tmp_path, "t2", config={"fail": False}, sync=Sync(every=True)))
    backend.poll(1)
    backend.close()


@pytest.mark.init(engine="inline")
def test_limits_that_cannot_hold_inline_are_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    backend = session_backend(where)
    drive(backend, [launch(tmp_path, f"t{i}", time_limit_s=60.0) for i in range(2)])
    assert [record.message for record in caplog.records if "cannot enforce limits" in record.message] == [
        "the inline engine cannot enforce limits of time and memory: trials run in this very process"
    ]
    backend.close()
