"""Things by name: networks, attacks, explanations. Their modules are imported when a name is first asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar, cast

T = TypeVar("T")
F = TypeVar("F")


class Registry(Generic[T]):
    """Functions or classes by name.

    Args:
        noun: What they are, for errors.
        modules: Name -> module that registers it when imported.
    """

    def __init__(self, noun: str, modules: Mapping[str, str]) -> None:
        self.noun = noun
        self._modules = dict(modules)
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[F], F]:
        """Return a decorator that registers what it decorates and leaves it as it is.

        Raises:
            ValueError: When it decorates: the name is another's.
        """

        def decorate(entry: F) -> F:
            known: object = self._entries.get(name, entry)
            if known is not entry:
                raise ValueError(f"{self.noun} '{name}' is registered already")
            self._entries[name] = cast("T", entry)
            return entry

        return decorate

    def forget(self, name: str) -> None:
        """Take a name out again; an unknown one is no error."""
        self._entries.pop(name, None)

    def names(self) -> list[str]:
        """Return the names in order."""
        return sorted({*self._modules, *self._entries})

    def get(self, name: str) -> T:
        """Return what has the name.

        Raises:
            ValueError: Nothing has.
        """
        if name not in self._entries and name in self._modules:
            importlib.import_module(self._modules[name])
        if name not in self._entries:
            raise ValueError(f"no {self.noun} is named '{name}'; there are {', '.join(self.names())}")
        return self._entries[name]
