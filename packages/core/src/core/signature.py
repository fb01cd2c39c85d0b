"""Signatures of remote functions and methods, checked where the call is made.

A wrong call of a remote function should fail at ``.remote()`` with the message Python itself would give, not later in
another process. :class:`CallSignature` is a record of names and counts that travels with actor handles; checking a
plain positional call compares two integers.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Callable

#: Stands for "any number of positional arguments" in ``max_positional``.
UNLIMITED = 1 << 62


class CallSignature(Struct, frozen=True, array_like=True):
    """What arguments a function takes. Compact, picklable, and encodable by msgspec."""

    #: qualified name, for messages
    name: str = ""
    #: a call with keywords none and a number of positionals from min to max fits
    min_positional: int = 0
    max_positional: int = UNLIMITED
    #: parameters that can be given by position, in order
    positional: tuple[str, ...] = ()
    #: how many of them cannot be given by keyword
    positional_only: int = 0
    #: how many of ``positional`` have no default
    required: int = 0
    keyword_only: tuple[str, ...] = ()
    required_keyword_only: tuple[str, ...] = ()
    takes_any_keyword: bool = False

    @classmethod
    def of(cls, function: Callable[..., Any], skip_self: bool = False) -> CallSignature:
        """Return the signature of ``function``; of anything that has none, one that every call fits.

        Args:
            function: any callable.
            skip_self: drop the first parameter, as for a function looked up on a class.
        """
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):  # some builtins have none
            return cls(name=_name_of(function), takes_any_keyword=True)
        return cls._from_parameters(_name_of(function), list(signature.parameters.values()), skip_self)

    @classmethod
    def _from_parameters(cls, name: str, parameters: list[inspect.Parameter], skip_self: bool) -> CallSignature:
        kinds = inspect.Parameter
        if skip_self and parameters and parameters[0].kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD):
            parameters = parameters[1:]
        by_position = [p for p in parameters if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)]
        by_keyword = [p for p in parameters if p.kind is kinds.KEYWORD_ONLY]
        required = sum(p.default is kinds.empty for p in by_position)
        required_keywords = tuple(p.name for p in by_keyword if p.default is kinds.empty)
        unlimited = any(p.kind is kinds.VAR_POSITIONAL for p in parameters)
        return cls(
            name=name,
            # With a required keyword no purely positional call fits: an empty range sends all to the full check.
            min_positional=UNLIMITED + 1 if required_keywords else required,
            max_positional=UNLIMITED if unlimited else len(by_position),
            positional=tuple(p.name for p in by_position),
            positional_only=sum(p.kind is kinds.POSITIONAL_ONLY for p in by_position),
            required=required,
            keyword_only=tuple(p.name for p in by_keyword),
            required_keyword_only=required_keywords,
            takes_any_keyword=any(p.kind is kinds.VAR_KEYWORD for p in parameters),
        )

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Check that a call fits.

        Raises:
            TypeError: it does not; the message is the one a direct call would give.
        """
        if kwargs or not self.min_positional <= len(args) <= self.max_positional:
            self._check_fully(args, kwargs)

    def _check_fully(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        unexpected = self._unexpected_keyword(kwargs)
        if unexpected is not None:
            raise TypeError(f"{self.name}() got an unexpected keyword argument {unexpected!r}")
        given = len(args)
        for name in self.positional[self.positional_only : given]:
            if name in kwargs:
                raise TypeError(f"{self.name}() got multiple values for argument {name!r}")
        if given > self.max_positional:
            raise TypeError(self._too_many(given))
        self._refuse_missing([*self._missing_positional(given, kwargs)], "positional")
        self._refuse_missing([name for name in self.required_keyword_only if name not in kwargs], "keyword-only")

    def _unexpected_keyword(self, kwargs: dict[str, Any]) -> str | None:
        if self.takes_any_keyword:
            return None
        known = self.positional[self.positional_only :]
        return next((name for name in kwargs if name not in known and name not in self.keyword_only), None)

    def _missing_positional(self, given: int, kwargs: dict[str, Any]) -> list[str]:
        return [
            name
            for index, name in enumerate(self.positional[: self.required])
            if index >= given and (index < self.positional_only or name not in kwargs)
        ]

    def _too_many(self, given: int) -> str:
        most = len(self.positional)
        takes = f"from {self.required} to {most}" if self.required < most else str(most)
        plural = "" if most == 1 and self.required == most else "s"
        return f"{self.name}() takes {takes} positional argument{plural} but {given} {_was(given)} given"

    def _refuse_missing(self, names: list[str], kind: str) -> None:
        if names:
            plural = "" if len(names) == 1 else "s"
            raise TypeError(f"{self.name}() missing {len(names)} required {kind} argument{plural}: {_listed(names)}")


def _name_of(function: object) -> str:
    return str(getattr(function, "__qualname__", None) or getattr(function, "__name__", None) or repr(function))


def _was(count: int) -> str:
    return "was" if count == 1 else "were"


def _listed(names: list[str]) -> str:
    """Return names as Python's own messages list them: 'a', 'b', and 'c'."""
    quoted = [repr(name) for name in names]
    if len(quoted) < 3:
        return " and ".join(quoted)
    return f"{', '.join(quoted[:-1])}, and {quoted[-1]}"
