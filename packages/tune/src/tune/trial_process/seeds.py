"""Random generators of a trial: seeded alike wherever and after whatever it runs.

With a seed, the global generators of ``random``, numpy and torch start from it; a library that the trial itself
imports is seeded at that moment. Without one they are seeded afresh, because a warm process would otherwise hand a
trial what an earlier one left (``np.random.seed(0)`` of one trial must not fix all that follow).
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import random
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any


def _seed_numpy(module: Any, seed: int | None) -> None:
    module.seed(None if seed is None else seed % 2**32)


def _seed_torch(module: Any, seed: int | None) -> None:
    if seed is None:
        module.seed()
    else:
        module.manual_seed(seed % 2**63)


#: What to seed once the module is there, by its name.
_SEEDERS: dict[str, Callable[[Any, int | None], None]] = {"numpy.random": _seed_numpy, "torch.random": _seed_torch}


class Seeder(importlib.abc.MetaPathFinder):
    """Seeds what is imported, and what will be (it sits in ``sys.meta_path`` once `begin` was called)."""

    def __init__(self) -> None:
        self._seed: int | None = None

    def begin(self, seed: int | None) -> None:
        """Seed everything for a trial that starts now."""
        self._seed = seed
        random.seed(seed)
        waiting = False
        for name, seed_module in _SEEDERS.items():
            module = sys.modules.get(name)
            if module is None:
                waiting = True
            else:
                seed_module(module, seed)
        # Only a seed makes a difference to modules that are not there yet, and they are looked for only until they are.
        if waiting and seed is not None:
            if self not in sys.meta_path:
                sys.meta_path.insert(0, self)
        else:
            self.end()

    def end(self) -> None:
        """Look at imports no more."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Have the modules seeded after they are executed; leave finding them to the others."""
        seed_module = _SEEDERS.get(fullname)
        if seed_module is None:
            return None
        finders = [finder for finder in sys.meta_path if finder is not self]
        specs = (finder.find_spec(fullname, path, target) for finder in finders if hasattr(finder, "find_spec"))
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _SeedingLoader(spec.loader, seed_module, self._seed)
        return spec


class _SeedingLoader(importlib.abc.Loader):
    """Loads as another loader does, then seeds."""

    def __init__(self, loader: Any, seed_module: Callable[[Any, int | None], None], seed: int | None) -> None:
        self._loader = loader
        self._seed_module = seed_module
        self._seed = seed

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """As the other loader."""
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """As the other loader, then seed."""
        self._loader.exec_module(module)
        self._seed_module(module, self._seed)
