"""Utilization metrics in shared memory: a worker stores numbers, and whoever wants to know them reads them there.

    schema = Schema({"requests_total": Field("u64", kind="counter", help="Answered requests."), "load": "f64"})

    with SegmentStore("/dev/shm/web") as store, store.observer(schema, "web") as worker:
        worker.add("requests_total")
        worker["load"] = 0.5

The meaning of types, kinds and layouts is documented in include/shmhot/observer.h.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import operator
import os
import weakref
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Union

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ._handle import NULL, Handle, memory, path_bytes
from ._native import ffi, lib
from .errors import ForkError

Path = Union[str, bytes, "os.PathLike[str]"]
Number = Union[int, float]

# Names of types as the library knows them, the index is its number.
_TYPES: list[str] = [ffi.string(lib.observer_type_name(code)).decode() for code in range(1, lib.OBSERVER_F64_BE + 1)]
_KINDS = {None: lib.OBSERVER_UNKNOWN, "counter": lib.OBSERVER_COUNTER, "gauge": lib.OBSERVER_GAUGE}
_KIND_NAMES = {code: name for name, code in _KINDS.items()}
_NUMPY_KINDS = {"u": "u", "s": "i", "f": "f"}
_VALUE = ffi.typeof("observer_value_t *")
_MEMBERS = {lib.OBSERVER_UNSIGNED: "as_u64", lib.OBSERVER_SIGNED: "as_i64", lib.OBSERVER_FLOAT: "as_f64"}

VALUE: np.dtype[np.void] = np.dtype(
    {
        "names": ["type", *_MEMBERS.values()],
        "formats": ["u4", "u8", "i8", "f8"],
        "offsets": [0, 8, 8, 8],
        "itemsize": ffi.sizeof("observer_value_t"),
    }
)
"""observer_value_t: its type says which of as_u64, as_i64 and as_f64 is the number; they lie in one place."""


def _type_code(what: str | DTypeLike) -> int:
    """Of a name of IO::Buffer, or of a numpy type; names are never numpy's, whose "u8" has eight bytes."""
    if isinstance(what, str):
        code: int = lib.observer_type(what.encode())
        if code >= 0:
            return code
    else:
        numpy = np.dtype(what)
        letter = {kind: letter for letter, kind in _NUMPY_KINDS.items()}.get(numpy.kind)
        name = f"{letter}{numpy.itemsize * 8}"
        big = numpy.byteorder == ">" or (numpy.itemsize == 1 and letter is not None)
        if (name.upper() if big else name) in _TYPES:
            return 1 + _TYPES.index(name.upper() if big else name)
    raise ValueError(f'{what!r} is no type of a field, such as "u64", "F32" or numpy.uint64')


def numpy_type(name: str) -> np.dtype[Any]:
    """numpy's type of a name of IO::Buffer: lower case is little-endian."""
    return np.dtype(f"{'<' if name[0].islower() else '>'}{_NUMPY_KINDS[name[0].lower()]}{int(name[1:]) // 8}")


def _encode(text: str | None) -> Any:
    """A C string; None is NULL."""
    if text is None:
        return NULL
    if "\0" in text:
        raise ValueError(f"{text!r} has a NUL")
    return ffi.new("char[]", text.encode())


def _number(value: Any) -> Number:
    number: Number = getattr(value.number, _MEMBERS[value.type])
    return number


@dataclasses.dataclass(frozen=True)
class Field:
    """A field of a schema.

    type: a name of Ruby's IO::Buffer ("U8", "u64" little-endian, "U64" big-endian, "f64", ...; "i64" for signed ones)
        or a type of numpy.
    kind: "counter", "gauge", or None.
    help: what it counts, in a sentence.
    unit: such as "bytes" or "seconds".
    name, offset: a Schema says these.
    """

    type: str | DTypeLike
    kind: str | None = None
    help: str | None = None
    unit: str | None = None
    name: str = ""
    offset: int = 0


class Schema(Handle, Mapping[str, Field]):
    """Which fields a segment has, and where: by name, in their order. It does not change.

    aligned: begins each field at a multiple of its size, so that several processes may add to it, and it never tears;
        otherwise each begins where the one before ends, as async-utilization has it.
    """

    def __init__(self, fields: Mapping[str, str | DTypeLike | Field], *, aligned: bool = False) -> None:
        layout = lib.OBSERVER_ALIGNED if aligned else lib.OBSERVER_PACKED
        self._take("observer_schema_t", lib.observer_schema_free, lib.observer_schema_new, layout)
        for name, field in fields.items():
            self._add(name, field if isinstance(field, Field) else Field(field))
        self._fields = self._read()

    @classmethod
    def _of(cls, handle: Any) -> Schema:
        """The object for a handle, which it frees."""
        self = cls.__new__(cls)
        self._handle = ffi.gc(handle, lib.observer_schema_free)
        self._fields = self._read()
        return self

    def _add(self, name: str, field: Field) -> None:
        if field.kind not in _KINDS:
            raise ValueError(f'the kind of {name} is {field.kind!r}, and must be "counter", "gauge" or None')
        texts = {"name": _encode(name), "help": _encode(field.help), "unit": _encode(field.unit)}
        numbers = {"type": _type_code(field.type), "kind": _KINDS[field.kind]}
        out = ffi.new("observer_field_t *", {"size": ffi.sizeof("observer_field_t"), **texts, **numbers})
        self._check(lib.observer_schema_add(self._handle, out))

    def _read(self) -> dict[str, Field]:
        fields = {}
        out = ffi.new("observer_field_t *", {"size": ffi.sizeof("observer_field_t")})
        for index in range(self._check(lib.observer_schema_count(self._handle))):
            self._check(lib.observer_schema_field(self._handle, index, out))
            name, help, unit = (ffi.string(text).decode() for text in (out.name, out.help, out.unit))
            kind = _KIND_NAMES[out.kind]
            fields[name] = Field(_TYPES[out.type - 1], kind, help or None, unit or None, name, out.offset)
        return fields

    def __getitem__(self, name: str) -> Field:
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    @property
    def size(self) -> int:
        """Bytes that the fields take."""
        return self._check(lib.observer_schema_size(self._handle))

    @property
    def dtype(self) -> np.dtype[np.void]:
        """numpy's type of a segment."""
        fields = self._fields.values()
        return np.dtype(
            {
                "names": list(self),
                "formats": [numpy_type(str(field.type)) for field in fields],
                "offsets": [field.offset for field in fields],
                "itemsize": self.size,
            }
        )


_set_u64, _set_i64, _set_f64 = lib.observer_set_u64, lib.observer_set_i64, lib.observer_set_f64
_add_u64, _add_i64, _add_f64 = lib.observer_add_u64, lib.observer_add_i64, lib.observer_add_f64


class Observer(Handle):
    """A segment that is open: part of a file, from any offset.

    Any number of threads may use it, and a forked child may read; what it writes is a ForkError.

    size: bytes of the segment; None is as long as the schema.
    refuse: a number that its field cannot hold is an OSError (ERANGE), instead of the nearest that it can.
    """

    def __init__(
        self,
        schema: Schema,
        path: Path,
        size: int | None = None,
        offset: int = 0,
        *,
        refuse: bool = False,
        read_only: bool = False,
    ) -> None:
        self.schema = schema
        self._read_only = read_only
        self._indices = {name: index for index, name in enumerate(schema)}
        flags = (lib.OBSERVER_REFUSE if refuse else 0) | (lib.OBSERVER_READ_ONLY if read_only else 0)
        options = ffi.new("observer_options_t *", {"size": ffi.sizeof("observer_options_t"), "flags": flags})
        length = schema.size if size is None else size
        where = (path_bytes(path), length, offset, options)
        self._take("observer_t", lib.observer_close, lib.observer_open, schema._borrow(), *where)

    def set(self, name: str, value: Number) -> None:
        """Stores a number; for a field of integers a fraction is cut off."""
        self._store(name, value, _set_u64, _set_i64, _set_f64)

    def add(self, name: str, value: Number = 1) -> None:
        """Adds a number: exactly beside other threads, and in the aligned layout beside other processes too."""
        self._store(name, value, _add_u64, _add_i64, _add_f64)

    def _store(self, name: str, value: Number, unsigned: Any, signed: Any, floating: Any) -> None:
        index = self._indices[name]
        try:
            number = operator.index(value)  # type: ignore[arg-type]
            status = (unsigned if number >= 0 else signed)(self._handle, index, number)
        except (TypeError, OverflowError):  # a float, or an integer that 64 bits cannot hold
            status = floating(self._handle, index, float(value))
        if status < 0:
            raise self._failure(status)

    def get(self, name: str) -> Number:
        """The number of a field."""
        out = ffi.new(_VALUE)
        status = lib.observer_get(self._handle, self._indices[name], out)
        if status < 0:
            raise self._failure(status)
        return _number(out)

    __getitem__ = get
    __setitem__ = set

    def read(self) -> dict[str, Number]:
        """All numbers, by name."""
        return {name: self.get(name) for name in self.schema}

    def slot(self, name: str) -> NDArray[Any]:
        """The field in memory, an array without dimensions: `slot[()]` is its number, `slot[()] = 1` stores one.

        Nothing is clamped. It keeps the memory, but when the observer is closed, the segment may become another's; nor
        must a forked child store.
        """
        out = ffi.new("observer_slot_t *")
        self._check(lib.observer_slot(self._handle, self._indices[name], out))
        bytes_ = memoryview(memory(out.address, out.length, self._handle))
        kind = numpy_type(_TYPES[out.type - 1])
        slot: NDArray[Any] = np.ndarray((), kind, bytes_.toreadonly() if self._read_only else bytes_)
        return slot


class _StoreObserver(Observer):
    """One with a segment of a store, which it gives back when closed or collected, or when Python ends."""

    def __init__(self, store: SegmentStore, segment: int, schema: Schema, **options: Any) -> None:
        size = store.segment_size
        super().__init__(schema, store.path, size, segment * size, **options)
        self._give_back = weakref.finalize(self, _give_back, store, segment)

    def close(self) -> None:
        super().close()
        self._give_back()


def _give_back(store: SegmentStore, segment: int) -> None:
    with contextlib.suppress(ForkError, ValueError):  # the segment is the parent's; the store was closed before
        store.free(segment)


class State(enum.IntEnum):
    """Of a worker."""

    UNDESCRIBED = lib.OBSERVER_UNDESCRIBED
    """Nobody has said what its numbers are."""
    ALIVE = lib.OBSERVER_ALIVE
    DEAD = lib.OBSERVER_DEAD


class Worker(NamedTuple):
    """Who has a segment."""

    segment: int
    offset: int
    service: str | None
    pid: int
    state: State
    since: np.datetime64
    """When it took the segment."""
    fields: int
    """How many there are."""


class SegmentStore(Handle):
    """A file of segments, one for each worker, and a sidecar that says what they hold. create() makes one.

    Any thread may use it. A forked child gets a ForkError, and opens its own.

    read_only: for who only looks.
    checked: reads by system calls instead of a mapping, so that a file which is cut meanwhile is an OSError (EPROTO),
        and not the end of the process.
    """

    def __init__(self, path: Path, *, read_only: bool = False, checked: bool = False) -> None:
        flags = (lib.OBSERVER_READ_ONLY if read_only else 0) | (lib.OBSERVER_CHECKED if checked else 0)
        self._open(lib.observer_store_open, path, flags=flags)

    @classmethod
    def create(cls, path: Path, *, segment_size: int = 512, segments: int = 64, mode: int = 0o600) -> SegmentStore:
        """Makes a store anew, in place of what has the name. It grows by itself.

        segment_size: bytes of each.
        segments: how many there are at first.
        mode: permissions.
        """
        for name, value in {"segment_size": segment_size, "segments": segments}.items():
            if value < 1:
                raise ValueError(f"{name} is {value}, and must be positive")
        self = cls.__new__(cls)
        self._open(lib.observer_store_create, path, segment_size=segment_size, segments=segments, mode=mode)
        return self

    def _open(self, make: Any, path: Path, **options: int) -> None:
        self.path = os.path.abspath(path)
        what = ffi.new("observer_store_options_t *", {"size": ffi.sizeof("observer_store_options_t"), **options})
        self._take("observer_store_t", lib.observer_store_close, make, path_bytes(self.path), what)

    @property
    def segment_size(self) -> int:
        """Bytes of a segment: segment i begins at i times as many."""
        return self._check(lib.observer_store_segment_size(self._handle))

    @property
    def count(self) -> int:
        """How many segments there are, taken or not."""
        return self._check(lib.observer_store_count(self._handle))

    # Whoever supervises workers

    def allocate(self, schema: Schema | None = None, service: str | None = None, pid: int = 0) -> int:
        """Takes a segment for a worker, and tells its number. Its numbers are zero.

        schema: None when the worker has yet to say what its numbers are; describe() follows then.
        pid: the worker's process; 0 is this one.
        """
        arguments = (NULL if schema is None else schema._borrow(), _encode(service), pid)
        return self._check(lib.observer_store_allocate(self._handle, *arguments))

    def describe(self, segment: int, schema: Schema, service: str | None = None, pid: int = 0) -> None:
        """Says what a taken segment holds, and for whom."""
        arguments = (segment, schema._borrow(), _encode(service), pid)
        self._check(lib.observer_store_describe(self._handle, *arguments))

    def observer(self, schema: Schema, service: str | None = None, *, refuse: bool = False) -> Observer:
        """Takes a segment for this process, and opens it. Closing gives it back."""
        segment = self.allocate(schema, service)
        try:
            return _StoreObserver(self, segment, schema, refuse=refuse)
        except BaseException:
            self.free(segment)
            raise

    def free(self, segment: int) -> None:
        """Gives a segment back. Its numbers become zero."""
        self._check(lib.observer_store_free(self._handle, segment))

    def reap(self) -> int:
        """Gives back the segments of workers whose processes have ended, and tells how many."""
        return self._check(lib.observer_store_reap(self._handle))

    def grow(self, segments: int) -> int:
        """Makes the store so many segments large, if it is not yet, and tells how many there are then."""
        return self._check(lib.observer_store_grow(self._handle, segments))

    def reopen(self) -> None:
        """Opens what has the path now, after it was made anew. If that fails, all is as before."""
        self._check(lib.observer_store_reopen(self._handle))

    # Whoever reads

    def segments(self) -> Iterator[int]:
        """The numbers of the segments that are taken."""
        segment = -1
        while True:
            try:
                segment = self._check(lib.observer_store_next(self._handle, segment))
            except FileNotFoundError:
                return
            yield segment

    def __iter__(self) -> Iterator[Worker]:
        """Whoever has a segment."""
        for segment in self.segments():
            with contextlib.suppress(FileNotFoundError):  # it has just been given back
                yield self.worker(segment)

    def worker(self, segment: int) -> Worker:
        """Who has a segment."""
        out = ffi.new("observer_worker_t *", {"size": ffi.sizeof("observer_worker_t")})
        self._check(lib.observer_store_worker(self._handle, segment, out))
        service = ffi.string(out.service).decode(errors="replace") or None
        since = np.datetime64(out.since_ns, "ns")
        return Worker(segment, out.offset, service, out.pid, State(out.state), since, out.fields)

    def schema(self, segment: int) -> Schema:
        """What the numbers of a segment are."""
        out = ffi.new("observer_schema_t **")
        self._check(lib.observer_store_schema(self._handle, segment, out))
        return Schema._of(out[0])

    def read(self, segment: int) -> dict[str, Number]:
        """The numbers of a segment, by name: all of one worker."""
        while True:
            worker = self.worker(segment)
            names = list(self.schema(segment))
            values = ffi.new("observer_value_t[]", len(names))
            self._check(lib.observer_store_read(self._handle, segment, values, len(names)))
            if self.worker(segment) == worker:  # else it has changed hands
                return {name: _number(value) for name, value in zip(names, values)}

    def read_many(
        self, first: int = 0, n: int | None = None, *, fields: int = 16
    ) -> tuple[NDArray[np.void], NDArray[np.int32]]:
        """The numbers of many segments in one call: an array of VALUE, a row for each segment, and how many each has.

        A count that is negative says why there are none, as -errno; a row whose count is above `fields` is cut.
        """
        n = max(0, self.count - first) if n is None else n
        values = np.zeros((n, fields), VALUE)
        counts = np.zeros(n, np.int32)
        found = self._check(
            lib.observer_store_read_many(
                self._handle,
                first,
                n,
                ffi.from_buffer("observer_value_t[]", values, require_writable=True),
                fields,
                ffi.from_buffer("int32_t[]", counts, require_writable=True),
            )
        )
        return values[:found], counts[:found]

    def sum(self, field: str, service: str | None = None) -> Number:
        """The sum of a field over all workers, or over those of a service; dead ones count until they are reaped."""
        out = ffi.new(_VALUE)
        self._check(lib.observer_store_sum(self._handle, _encode(service), _encode(field), out))
        return _number(out)

    def exposition(self, *, openmetrics: bool = False) -> str:
        """All numbers as text that Prometheus reads: format 0.0.4, or OpenMetrics 1.0.0."""
        code = lib.OBSERVER_OPENMETRICS if openmetrics else lib.OBSERVER_PROMETHEUS
        room = 1 << 16
        while True:
            text = ffi.new("char[]", room)
            length = self._check(lib.observer_store_exposition(self._handle, code, text, room))
            if length < room:
                return bytes(ffi.buffer(text)[:length]).decode()
            room = 2 * length


def numbers(values: NDArray[np.void]) -> NDArray[np.float64]:
    """An array of VALUE as floats; NaN where there is none."""
    kinds = [values["type"] == kind for kind in _MEMBERS]
    return np.select(kinds, [values[name].astype(np.float64) for name in _MEMBERS.values()], np.nan)
