"""The machine by itself: its invariants after every input, and that its record alone brings it back to where it was."""

from __future__ import annotations

import pickle
from collections import deque
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from packages.tune.tests.unit.controller_harness import Counting, Script, ScriptedBackend, make_plan
from packages.tune.tests.unit.test_controller_crashes import EXAMPLES, SCHEDULERS, curve
from tune.controller import records
from tune.controller.advice import Advice
from tune.controller.creation import TrialMaker
from tune.controller.instructions import DeleteCheckpoint, Finish, Instruction, Kill, Start, Tell
from tune.controller.machine import Machine
from tune.controller.plan import CheckpointPlan, FailurePlan
from tune.controller.records import ANSWERS, INPUTS, Began, Record, Rules
from tune.controller.rules import rules_of
from tune.controller.state import State
from tune.messages import Launch, StopRule
from tune.trial import FailureKind

TRIALS = 7


def new_machine(plan: Any, backend: ScriptedBackend, rules: Rules) -> tuple[Machine, Advice]:
    advice = Advice(plan.searcher, plan.scheduler, None, TrialMaker(plan))
    return Machine(State(rules), advice, backend.capacity, backend.cluster(), "/nowhere"), advice


def books(state: State) -> Any:
    """Return the books as comparable data, without what is of the driver and not of the sweep."""
    runs = [
        # what a process waits at, and how far it has come, ends with the process
        msgspec.structs.replace(run, waiting=0, delivered=0)
        for run in [*state.runs.values(), *state.shelved.values()]
    ]
    return msgspec.to_builtins(
        [state.trials, runs, list(state.shelved), state.pending, state.returning, state.exhausted], enc_hook=repr
    )


class MachineTest(RuleBasedStateMachine):
    """Trials do what scripts and luck say; a driver may die, be interrupted, or run out of time at any moment."""

    @initialize(
        scheduler=st.sampled_from(sorted(SCHEDULERS)),
        ordered=st.booleans(),
        save_every=st.sampled_from([0, 1, 2]),
        seed=st.integers(0, 1000),
        keep=st.sampled_from([None, 1, 2]),
    )
    def begin(self, scheduler: str, ordered: bool, save_every: int, seed: int, keep: int | None) -> None:
        self.scheduler, self.seed, self.save_every = scheduler, seed, save_every
        self.ordered, self.keep = ordered, keep
        self.written: list[tuple[int, Record]] = []
        self.finish: Finish | None = None
        self.plan = self.new_plan()
        self.rules = rules_of(self.plan)
        self.new_backend()
        self.machine, self.advice = new_machine(self.plan, self.backend, self.rules)
        self.carry_out(self.machine.begin(Began(self.backend.now(), self.rules)))

    def new_plan(self) -> Any:
        return make_plan(
            Path("/nowhere"),
            num_samples=TRIALS,
            seed=self.seed,
            deterministic=self.ordered,
            searcher=Counting(self.seed),
            scheduler=SCHEDULERS[self.scheduler](),
            checkpoints=CheckpointPlan(num_to_keep=self.keep),
            failures=FailurePlan(max_failures=1),
        )

    def new_backend(self) -> None:
        def script(launch: Launch) -> Script:
            index = int(launch.trial_id.split("_")[1])
            fails = {1: 2} if index % 3 == 2 else {}
            kind = FailureKind.DIED if index % 2 else FailureKind.TIMEOUT
            return Script(2 + index % 4, curve, self.save_every, fail_after=fails, kind=kind)

        before = getattr(self, "backend", None)
        self.backend = ScriptedBackend(script, places=3, seed=self.seed)
        if before is not None:
            self.backend.time, self.backend.deleted = before.time, before.deleted

    def carry_out(self, instructions: list[Instruction]) -> None:
        self.written += self.machine.take_records()
        for instruction in instructions:
            match instruction:
                case Start(trial=trial, origin=origin):
                    self.backend.start(
                        Launch(
                            trial_id=trial.trial_id,
                            attempt=instruction.attempt,
                            config=instruction.config,
                            trial_dir=trial.dirname,
                            bundles=instruction.resources.bundles,
                            checkpoint=None if origin is None else f"{origin.dirname}/{origin.name}",
                            iteration=0 if origin is None else origin.iteration,
                            sync=instruction.sync,
                            stop=StopRule(),
                        )
                    )
                case Tell():
                    self.backend.answer(instruction.trial_id, instruction.verdict)
                case Kill():
                    self.backend.kill(instruction.trial_id)
                case DeleteCheckpoint():
                    self.backend.delete_checkpoint(instruction.dirname, instruction.name)
                case Finish():
                    assert self.finish is None
                    assert not self.backend.attempts
                    self.finish = instruction
                case _:
                    pass

    @precondition(lambda self: self.finish is None)
    @rule(times=st.integers(1, 12))
    def go_on(self, times: int) -> None:
        for _ in range(times):
            for event in self.backend.poll(0.1):
                self.carry_out(self.machine.handle(event, self.backend.now()))
            self.carry_out(self.machine.tick(self.backend.now()))
            if self.finish is not None:
                return

    @precondition(lambda self: self.finish is None)
    @rule()
    def interrupt(self) -> None:
        self.carry_out(self.machine.interrupt(self.backend.now()))

    @rule(snapshot=st.booleans())
    def die_and_return(self, snapshot: bool) -> None:
        """Begin another driver, from a snapshot or from the whole record."""
        self.finish = None
        self.new_backend()
        if snapshot:
            state, searcher, scheduler = pickle.loads(
                pickle.dumps((self.machine.state, self.advice.searcher, self.advice.scheduler))
            )
            self.advice = Advice(searcher, scheduler, None, TrialMaker(self.plan))
            self.machine = Machine(state, self.advice, self.backend.capacity, self.backend.cluster(), "/nowhere")
        else:
            self.machine, self.advice = self.replayed(self.new_plan())
        self.carry_out(self.machine.begin(Began(self.backend.now(), self.rules)))

    def replayed(self, plan: Any) -> tuple[Machine, Advice]:
        machine, advice = new_machine(plan, self.backend, self.rules)
        replay_into(machine, advice, self.written)
        return machine, advice

    @invariant()
    def the_books_are_in_order(self) -> None:
        if hasattr(self, "machine"):
            self.machine.validate()
            assert len(self.backend.attempts) <= 3

    def teardown(self) -> None:
        if not hasattr(self, "machine"):
            return
        again, advice = self.replayed(self.new_plan())
        assert books(again.state) == books(self.machine.state)
        assert not advice.warnings, "the searcher answered differently"
        nobody = Advice(None, None, None, None)
        blind = Machine(State(self.rules), nobody, lambda _: 1 << 30, {}, "/nowhere")
        replay_into(blind, nobody, self.written)
        assert books(blind.state) == books(self.machine.state)


def replay_into(machine: Machine, advice: Advice, written: list[tuple[int, Record]]) -> None:
    """Have a machine go through a record."""
    for _, round_ in records.rounds(written):
        recorded, *rest = records.decode(records.encode(round_))
        assert isinstance(recorded, INPUTS)
        advice.script = deque(record for record in rest if isinstance(record, ANSWERS))
        machine.replay(recorded)
        assert not advice.script, "an answer that no question belongs to"
    advice.script = None


TestMachine = MachineTest.TestCase
TestMachine.settings = settings(
    max_examples=2 * EXAMPLES, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
