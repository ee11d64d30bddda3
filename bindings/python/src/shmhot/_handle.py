"""What the modules share: handles, views of their memory, C structs, and waiting."""

from __future__ import annotations

import math
import os
import struct
import time
from types import TracebackType
from typing import Any, Callable, TypeVar

import numpy as np

from ._native import ffi, lib
from .errors import check, error

NULL = ffi.NULL

AnyHandle = TypeVar("AnyHandle", bound="Handle")


class Handle:
    """What stands for a C handle, and gives it back when closed or collected.

    Calls of the library let other threads run, and one of these may close the handle meanwhile. So closing only drops a
    reference: the arguments of a call are another one, a view is one, and the handle is freed with the last of them.
    """

    _handle: Any = NULL

    def _take(self, kind: str, free: Callable[[Any], int], make: Callable[..., int], *arguments: Any) -> None:
        """Takes the handle that make() puts into its last argument."""
        out = ffi.new(f"{kind} **")
        check(make(*arguments, out))
        self._handle = ffi.gc(out[0], free)

    def close(self) -> None:
        """Gives the handle back; a second time does nothing."""
        self._handle = NULL

    @property
    def closed(self) -> bool:
        return self._handle is NULL

    def _failure(self, status: int) -> Exception:
        """The exception for a negative status of a call with this handle: the library refuses NULL."""
        if self._handle is NULL:
            return ValueError(f"this {type(self).__name__} is closed")
        return error(status)

    def _borrow(self) -> Any:
        """The C handle, for a call that is another object's."""
        handle = self._handle
        if handle is NULL:
            raise self._failure(0)
        return handle

    def _check(self, status: int) -> int:
        """Returns a status that is a success, raises one that is not."""
        if status < 0:
            raise self._failure(status)
        return status

    def __enter__(self: AnyHandle) -> AnyHandle:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__}{' (closed)' if self.closed else ''}>"


def memory(address: Any, length: int, handle: Any) -> Any:
    """Memory that belongs to a handle, for memoryview() and numpy. Whatever is made of it keeps the handle."""
    return ffi.buffer(ffi.gc(address, lambda _, handle=handle: None), length)


def path_bytes(path: Any) -> bytes:
    """A path for C. Bytes behind a NUL would be lost without a word."""
    encoded = os.fsencode(path)
    if b"\0" in encoded:
        raise ValueError(f"the path {path!r} has a NUL")
    return encoded


# C structs


def _fields(name: str) -> list[tuple[str, Any]]:
    """The fields that mean something."""
    return [(field, what) for field, what in ffi.typeof(name).fields if not field.startswith(("reserved", "padding"))]


def dtype(name: str) -> np.dtype[np.void]:
    """numpy's type of a C struct of numbers."""
    fields = _fields(name)
    return np.dtype(
        {
            "names": [field for field, _ in fields],
            "formats": [what.type.cname.replace("_t", "") for _, what in fields],
            "offsets": [what.offset for _, what in fields],
            "itemsize": ffi.sizeof(name),
        }
    )


_CODES = {
    "uint8_t": "B",
    "uint16_t": "H",
    "int16_t": "h",
    "uint32_t": "I",
    "int32_t": "i",
    "uint64_t": "Q",
    "int64_t": "q",
}


def packing(name: str, *only: str) -> tuple[tuple[str, ...], struct.Struct]:
    """The fields of a C struct of integers, and what unpacks all at once: far cheaper than one by one.

    only: these of them. Of an array it is the first number.
    """
    fields = [(field, what) for field, what in _fields(name) if not only or field in only]
    codes, end = "=", 0
    for _, what in fields:
        item = what.type.item if what.type.kind == "array" else what.type
        codes += f"{what.offset - end}x{_CODES[item.cname]}"
        end = what.offset + ffi.sizeof(item)
    return tuple(field for field, _ in fields), struct.Struct(codes)


# Waiting

NO_TIMEOUT: int = lib.VMCLOCK_NO_TIMEOUT  # of all systems
LONGEST_WAIT = 1.0
"""Of a call, in seconds: then it is looked whether the handle was closed, and whether another thread got a signal."""


def milliseconds(seconds: float | None) -> int:
    """A timeout for C, rounded up; None is no limit."""
    if seconds is None:
        return NO_TIMEOUT
    if not seconds >= 0:
        raise ValueError(f"the timeout is {seconds} s, and must not be negative")
    return NO_TIMEOUT if seconds >= 0xFFFFFFFF / 1000 else math.ceil(seconds * 1000)


def wait_for(call: Callable[[int], int], timeout: float | None) -> bool:
    """Calls with milliseconds to wait until the call says that it need not be called again, or the time is over.

    Signals end a call early. Python's handlers run then, and what they raise ends the waiting.
    """
    milliseconds(timeout)  # refuses what is no time
    deadline = time.monotonic() + (math.inf if timeout is None else timeout)
    while True:
        left = max(0.0, deadline - time.monotonic())
        if call(milliseconds(min(left, LONGEST_WAIT))):
            return True
        if left == 0:
            return False
