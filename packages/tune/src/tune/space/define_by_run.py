"""The trial that a define-by-run space sees when it is not Optuna that chooses: as much of Optuna's as spaces use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tune.space.domains import Categorical, Domain, Float, Integer
from tune.space.tree import PLAIN, Chooser


class SpaceTrial:
    """Suggests values by asking a chooser; Optuna's names, arguments and bounds (both ends included)."""

    def __init__(self, choose: Chooser, fixed: Mapping[str, Any]) -> None:
        self._choose = choose
        self._fixed = fixed
        self._domains: dict[str, Domain] = {}
        #: what was suggested so far
        self.params: dict[str, Any] = {}
        self.user_attrs: dict[str, Any] = {}

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Suggest a real number.

        Raises:
            ValueError: `low` above `high`, or not positive although `log`; `step` together with `log`.
        """
        if not low <= high or (log and low <= 0) or (step is not None and (log or step <= 0)):
            raise ValueError(f"suggest_float({name!r}, {low}, {high}, step={step}, log={log}): not a range of numbers.")
        if step is None:
            return float(self._ask(name, Float(float(low), float(high), log=log)))
        return float(self._ask(name, Stepped(float(low), float(high), float(step))))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Suggest a whole number.

        Raises:
            ValueError: `low` above `high`, or not positive although `log`; `step` together with `log`.
        """
        if not low <= high or (log and (low <= 0 or step != 1)) or step < 1:
            raise ValueError(f"suggest_int({name!r}, {low}, {high}, step={step}, log={log}): not a range of numbers.")
        if step == 1:
            return int(self._ask(name, Integer(int(low), int(high) + 1, log=log)))
        return int(self._ask(name, Stepped(float(low), float(high), float(step), whole=True)))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Suggest one of several plain values.

        Raises:
            ValueError: there is none.
            TypeError: a value is not a str, int, float, bool or None.
        """
        options = tuple(choices)
        if not options:
            raise ValueError(f"suggest_categorical({name!r}): there must be at least one choice.")
        for option in options:
            if not isinstance(option, PLAIN):
                raise TypeError(f"suggest_categorical({name!r}): {option!r} must be a str, int, float, bool or None.")
        return self._ask(name, Categorical(options))

    def set_user_attr(self, key: str, value: Any) -> None:
        """Keep a remark, as Optuna's trials do."""
        self.user_attrs[key] = value

    def _ask(self, name: str, domain: Domain) -> Any:
        if name in self.params:
            if self._domains[name] != domain:
                raise ValueError(f"{name!r} was suggested twice, from different domains.")
            return self.params[name]
        value = self._fixed[name] if name in self._fixed else self._choose(name, domain)
        self._domains[name] = domain
        self.params[name] = value
        return value


class Stepped(Domain, frozen=True):
    """The numbers ``low``, ``low + step``, ... up to ``high``: Optuna's steps, which need not be multiples."""

    low: float
    high: float
    step: float
    whole: bool = False

    def draw(self, rng: Any) -> float:
        """Draw one value."""
        count = int((self.high - self.low) / self.step + 1e-9)
        value = self.low + int(rng.integers(count + 1)) * self.step
        return round(value) if self.whole else value

    def settle(self, value: float) -> float:
        """Return the permitted value nearest to this one."""
        count = int((self.high - self.low) / self.step + 1e-9)
        settled = self.low + min(max(round((value - self.low) / self.step), 0), count) * self.step
        return round(settled) if self.whole else settled

    def is_valid(self, value: Any) -> bool:
        """Tell whether the value is within the bounds."""
        return isinstance(value, int | float) and self.low <= value <= self.high

    @property
    def domain_str(self) -> str:
        """The domain for people."""
        return f"{self.low:g}, {self.low + self.step:g}, ... {self.high:g}"
