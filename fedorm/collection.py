"""The list a one-to-many federated relationship loads as."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, SupportsIndex, TypeVar, overload

T = TypeVar("T")
Hook = Callable[[Any, Any, bool], None]


class FederatedList(list[T]):
    """A list whose changes reach the other side: a member that comes or goes has its key set or cleared.

    ``hook(owner, member, arrived)`` is called before the change and may refuse it by raising.
    """

    __slots__ = ("_hook", "_owner")

    def __init__(self, members: Iterable[T], owner: Any, hook: Hook) -> None:
        super().__init__(members)
        self._owner, self._hook = owner, hook

    def append(self, member: T) -> None:
        """Add ``member`` and point its key here."""
        self._hook(self._owner, member, True)
        super().append(member)

    def insert(self, index: SupportsIndex, member: T) -> None:
        """Add ``member`` at ``index`` and point its key here."""
        self._hook(self._owner, member, True)
        super().insert(index, member)

    def extend(self, members: Iterable[T]) -> None:
        """Append each of ``members``."""
        for member in list(members):
            self.append(member)

    def remove(self, member: T) -> None:
        """Take ``member`` out and clear its key."""
        index = self.index(member)
        self._hook(self._owner, member, False)
        super().__delitem__(index)

    def pop(self, index: SupportsIndex = -1) -> T:
        """Take out and return the member at ``index``; its key is cleared."""
        self._hook(self._owner, self[index], False)
        return super().pop(index)

    def clear(self) -> None:
        """Take every member out."""
        for member in list(self):
            self.remove(member)

    def __iadd__(self, members: Iterable[T]) -> FederatedList[T]:  # type: ignore[override, misc]
        self.extend(members)
        return self

    def __imul__(self, times: SupportsIndex) -> FederatedList[T]:
        if times.__index__() > 1:
            raise ValueError("a member can be in a relationship only once")
        if times.__index__() < 1:
            self.clear()
        return self

    @overload
    def __setitem__(self, index: SupportsIndex, member: T) -> None: ...
    @overload
    def __setitem__(self, index: slice, member: Iterable[T]) -> None: ...
    def __setitem__(self, index: SupportsIndex | slice, member: Any) -> None:
        leaving = self[index] if isinstance(index, slice) else [self[index]]
        arriving = list(member) if isinstance(index, slice) else [member]
        for one in leaving:
            if one not in arriving:
                self._hook(self._owner, one, False)
        for one in arriving:
            if one not in leaving:
                self._hook(self._owner, one, True)
        if isinstance(index, slice):
            super().__setitem__(index, arriving)
        else:
            super().__setitem__(index, member)

    def __delitem__(self, index: SupportsIndex | slice) -> None:
        for member in self[index] if isinstance(index, slice) else [self[index]]:
            self._hook(self._owner, member, False)
        super().__delitem__(index)

    def __reduce__(self) -> tuple[type[list[Any]], tuple[list[T]]]:
        # A copy or a pickle is a plain list: it no longer speaks for the owner.
        return list, (list(self),)
