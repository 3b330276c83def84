"""An object that the functions of one process share, such as a model that is large to load."""

import threading
import uuid
import weakref
from collections.abc import Callable
from typing import Any

__all__ = ["Shared"]


class Shared:
    """A handle, made when the pipeline is built and pickled with the functions; `acquire`, in `setup` or `process`,
    gives the object, made once in a process however many tasks ask for it.

    It lives as long as somebody holds it; the last one acquired in a process is held besides, so that it is not made
    anew between one task and the next. It must be possible to refer to it weakly: no list or dict, but an object of a
    subclass may be one."""

    def __init__(self) -> None:
        self._key = uuid.uuid4().hex

    def acquire(self, constructor_fn: Callable[[], Any], tag: Any = None) -> Any:
        """The object, from `constructor_fn` if there is none. Another `tag` than that of the last time makes a new one;
        None takes what there is."""
        with _lock:
            slot = _slots.setdefault(self._key, _Slot())
        with slot.lock:
            found = slot.get(tag)
            if found is None:
                found = slot.put(constructor_fn(), tag)
        _kept[0] = found
        return found


class _Slot:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._object: Callable[[], Any] = lambda: None
        self._tag: Any = None

    def get(self, tag: Any) -> Any:
        return self._object() if tag is None or tag == self._tag else None

    def put(self, made: Any, tag: Any) -> Any:
        self._object, self._tag = (lambda: None) if made is None else weakref.ref(made), tag
        return made


_lock = threading.Lock()
_slots: dict[str, _Slot] = {}
_kept: list[Any] = [None]
"""The last object of this process, held."""
