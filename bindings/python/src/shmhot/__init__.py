"""The parts of a server that must not wait: bindings of libshmhot.

The contract of each call is the documentation in include/shmhot/*.h; what the library does is told in docs/.
"""

from ._native import ffi, lib

if lib.shmhot_abi_version() != lib.SHMHOT_ABI_VERSION:
    raise ImportError(
        f"libshmhot has ABI version {lib.shmhot_abi_version()}, and this package was built for "
        f"{lib.SHMHOT_ABI_VERSION}: install the package and the library of the same release"
    )

from .circbuf import AsyncMirror, CircBuff, Mirror
from .errors import Error, ForkError, PanicError, UnhealthyError, WrongThreadError
from .hotpath import HotpathRing
from .observer import Field, Observer, Schema, SegmentStore
from .vmclock import VMClock

__version__: str = ffi.string(lib.shmhot_version()).decode()

__all__ = [
    "AsyncMirror",
    "CircBuff",
    "Error",
    "Field",
    "ForkError",
    "HotpathRing",
    "Mirror",
    "Observer",
    "PanicError",
    "Schema",
    "SegmentStore",
    "UnhealthyError",
    "VMClock",
    "WrongThreadError",
]
