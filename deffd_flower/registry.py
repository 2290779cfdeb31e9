"""Named building blocks: how a config value finds its code, inside the package or outside it."""

from collections.abc import Callable
from importlib import import_module
from typing import Generic, TypeVar

from deffd_flower.errors import RequestError, did_you_mean

T = TypeVar("T")


class Registry(Generic[T]):
    """Maps the values of one config key to the objects that implement them.

    Code outside the package joins in either way: by the decorator, in a module named by the
    ``plugins`` key, or by giving a dotted path ``module:name`` as the value.

    Args:
        key: The config key the names are values of; errors name it.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that files its object under ``name``.

        Raises:
            ValueError: The name is taken by another object.
        """

        def add(entry: T) -> T:
            if self._entries.setdefault(name, entry) is not entry:
                raise ValueError(f"{self.key} {name!r} is registered already")
            return entry

        return add

    def names(self) -> list[str]:
        """Return the registered names, sorted."""
        return sorted(self._entries)

    def get(self, name: str) -> T:
        """Return the object called ``name``, or found at the dotted path ``module:name``.

        Raises:
            RequestError: There is no such name, or the path leads nowhere.
        """
        if name in self._entries:
            return self._entries[name]
        if ":" in name:
            return self._import(name)
        allowed = ", ".join(self.names())
        raise RequestError(
            self.key, name, f"must be one of {allowed}.{did_you_mean(name, self.names())}"
        )

    def _import(self, path: str) -> T:
        module, _, attribute = path.partition(":")
        try:
            entry: T = getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as problem:
            raise RequestError(self.key, path, f"cannot be imported ({problem})") from problem
        return entry
