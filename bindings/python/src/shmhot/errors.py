"""How the library's statuses become exceptions.

-errno becomes the OSError of that number, which may be one of its subclasses: FileNotFoundError, BlockingIOError,
TimeoutError, ... The library's own statuses become the classes below. The message is the library's sentence about what
went wrong.
"""

from __future__ import annotations

from ._native import ffi, lib


class Error(Exception):
    """A failure that has no errno."""


class PanicError(Error):
    """A bug in the library, caught."""


class WrongThreadError(Error):
    """It belongs to another thread."""


class ForkError(Error):
    """It was made before a fork, and this is the child."""


class UnhealthyError(Error):
    """It has been given up."""


_OWN: dict[int, type[Error]] = {
    lib.SHMHOT_EPANIC: PanicError,
    lib.SHMHOT_ETHREAD: WrongThreadError,
    lib.SHMHOT_EFORK: ForkError,
    lib.SHMHOT_EUNHEALTHY: UnhealthyError,
}


def strerror(status: int) -> str:
    """What a status means, in a few words."""
    text: bytes = ffi.string(lib.shmhot_strerror(status))
    return text.decode()


def error(status: int) -> Exception:
    """The exception for a negative status, which the last call of this thread has returned."""
    room = 1024
    text = ffi.new("char[]", room)
    length = lib.shmhot_last_error(text, room)
    sentence = ffi.buffer(text)[: min(length, room - 1)].decode(errors="replace")
    if status in _OWN:
        return _OWN[status](sentence)
    return OSError(-status, sentence)


def check(status: int) -> int:
    """Returns a status that is a success, raises one that is not."""
    if status < 0:
        raise error(status)
    return status
