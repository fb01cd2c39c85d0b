"""Runs a `Trainable` class as a trial: step by step, with checkpoints by frequency, at the end and when paused."""

from __future__ import annotations

import copy
import tempfile

from tune.messages import Action, Launch, TrialSaved
from tune.trainable import Trainable, TrialFacts
from tune.trial import CheckpointRecord
from tune.trial_process.outbox import ENDS, Outbox
from tune.trial_process.session import TrialSession

#: A step's result may ask for a checkpoint with it. Ray's name.
SHOULD_CHECKPOINT = "should_checkpoint"


class ClassRunner:
    """Keeps the instance of the last trial for the next one, if its class can be reset (``reset_config``).

    Args:
        export_formats: passed to `Trainable.export_model` when a trial has ended well; none for no export.
    """

    def __init__(self, export_formats: tuple[str, ...] = ()) -> None:
        self._export_formats = export_formats
        self._kept: Trainable | None = None

    def run(self, cls: type[Trainable], launch: Launch, session: TrialSession, outbox: Outbox) -> None:
        """Run a trial to its end; `session.ending` says what comes then.

        Raises:
            Whatever the user's methods raise.
        """
        session.by_steps = True
        trainable = self._instance(cls, launch, session)
        ended_well = False
        try:
            checkpoint = session.checkpoint()
            if checkpoint is not None:
                trainable.restore(checkpoint)
            _Steps(trainable, launch, session, outbox).run()
            if self._export_formats and session.ending is not Action.PAUSE:
                trainable.export_model(list(self._export_formats))
            ended_well = True
        finally:
            if ended_well and cls.reset_config is not Trainable.reset_config:
                self._kept = trainable
            else:
                trainable.cleanup()

    def close(self) -> None:
        """Clean up the kept instance."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.cleanup()

    def _instance(self, cls: type[Trainable], launch: Launch, session: TrialSession) -> Trainable:
        kept, self._kept = self._kept, None
        config = copy.deepcopy(launch.config)
        context = session.context
        facts = TrialFacts(
            context.get_trial_id(),
            context.get_trial_name(),
            context.get_trial_resources(),
            context.get_trial_dir(),
            launch.iteration,
            launch.time_total_s,
        )
        if kept is not None:
            if type(kept) is cls:
                kept.begin(facts)
                if kept.reset_config(config):
                    kept.config = config
                    return kept
            kept.cleanup()
        trainable = cls.__new__(cls)
        trainable.begin(facts)
        trainable.__init__(config)  # type: ignore[misc]  # facts about the trial must be there when setup() runs
        return trainable


class _Steps:
    def __init__(self, trainable: Trainable, launch: Launch, session: TrialSession, outbox: Outbox) -> None:
        self._trainable = trainable
        self._launch = launch
        self._session = session
        self._outbox = outbox
        self._can_save = type(trainable).can_save()
        #: iteration of the newest checkpoint
        self._saved_at = -1

    def run(self) -> None:
        action = Action.CONTINUE
        while action not in ENDS:
            action = self._step()
            if action is Action.SAVE:
                self._save()
        at_end = self._launch.checkpoint_at_end
        if action is Action.PAUSE or at_end is None or at_end:
            self._save()

    def _step(self) -> Action:
        result = self._trainable.step()
        if not isinstance(result, dict):
            raise TypeError(
                f"{type(self._trainable).__name__}.step() must return a dict of metrics, got "
                f"{type(result).__name__}: {result!r:.200}"
            )
        result = dict(result)
        wanted = bool(result.pop(SHOULD_CHECKPOINT, False))
        iteration = self._session.iteration + 1
        self._trainable.advance(iteration)
        self._trainable.log_result(result)
        frequency = self._launch.checkpoint_frequency
        if self._can_save and (wanted or (frequency > 0 and iteration % frequency == 0)):
            self._saved_at = iteration
            with tempfile.TemporaryDirectory(prefix="checkpoint-") as directory:
                checkpoint = self._trainable.save(directory)
                return self._session.report(result, checkpoint)
        return self._session.report(result)

    def _save(self) -> None:
        """Save without a result, unless that was done at this very result."""
        if not self._can_save or self._saved_at == self._session.iteration:
            return
        self._saved_at = self._session.iteration
        with tempfile.TemporaryDirectory(prefix="checkpoint-") as directory:
            record: CheckpointRecord = self._session.save(self._trainable.save(directory))
        self._outbox.post(TrialSaved(self._launch.trial_id, self._launch.attempt, record))
