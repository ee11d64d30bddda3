"""Metadata between Python's values and the library's JSON, which docs/circbuf.md describes."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from typing import Any, Callable

import numpy as np
from numpy.typing import NDArray

Metadata = dict[str, Any]
"""dims, axes, attrs, key, buffered_axis and stream_dim, as ezmsg-tools has them: an axis is {"kind": "linear", "unit",
"gain", "offset"} or {"kind": "coord", "unit", "dims", "data"}, where data is an array."""


def to_json(metadata: Mapping[str, Any]) -> bytes:
    """What the library takes; it says what is missing or too much."""
    members = dict(metadata)
    if "axes" in members:
        members["axes"] = {name: _axis_to_json(axis) for name, axis in members["axes"].items()}
    if "attrs" in members:
        members["attrs"] = _dict_to_json(members["attrs"], "attrs")
    return json.dumps(members, allow_nan=False).encode()


def from_json(text: bytes) -> Metadata:
    """What the library gives."""
    metadata: Metadata = json.loads(text)
    for axis in metadata["axes"].values():
        if "data" in axis:
            axis["data"] = _array_from_json(axis.pop("dtype"), axis.pop("shape"), axis["data"])
        for name in ("gain", "offset"):
            if name in axis:
                axis[name] = float(_from_json(axis[name]))
    metadata["attrs"] = _dict_from_json(metadata["attrs"])
    return metadata


# Axes


def _axis_to_json(axis: Mapping[str, Any]) -> dict[str, Any]:
    members = {name: value.item() if isinstance(value, np.generic) else value for name, value in axis.items()}
    members = {name: _float_to_json(value) if isinstance(value, float) else value for name, value in members.items()}
    if "data" in members:
        members.update(_array_to_json(np.asarray(members["data"])))
    return members


# Values


def is_plain(value: Any) -> bool:
    """Whether it is of plain Python and numpy values."""
    if isinstance(value, Mapping):
        return all(isinstance(name, str) and is_plain(inner) for name, inner in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(is_plain, value))
    if isinstance(value, (np.ndarray, np.generic)):
        return _is_plain_dtype(value.dtype)
    return value is None or isinstance(value, (str, bytes, int, float, complex))


def _is_plain_dtype(dtype: np.dtype[Any]) -> bool:
    """Objects are not; nor are floats of as many bytes as the machine likes."""
    if dtype.names is not None:
        return all(_is_plain_dtype(dtype[name].base) for name in dtype.names)
    return dtype.char not in "OgG"


def _to_json(value: Any, where: str) -> Any:
    if isinstance(value, np.generic):
        plain = value.item()
        value = plain if type(plain) in (bool, int, float, complex, str, bytes) else np.asarray(value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return _float_to_json(value)
    if isinstance(value, complex):
        return {"$complex": [_float_to_json(value.real), _float_to_json(value.imag)]}
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, np.ndarray):
        return {"$array": _array_to_json(value)}
    if isinstance(value, Mapping):
        return _dict_to_json(value, where)
    if isinstance(value, (list, tuple)):
        items = [_to_json(item, f"{where}[{index}]") for index, item in enumerate(value)]
        return {"$tuple": items} if isinstance(value, tuple) else items
    raise TypeError(
        f"{where} is of type {type(value).__name__}: metadata are None, bool, int, float, complex, str, bytes, numpy's "
        "scalars and arrays, and lists, tuples and dicts of these"
    )


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((tag, inner),) = value.items()
        if tag in _TAGS:
            return _TAGS[tag](inner)
    return _dict_from_json(value)


_TAGS: dict[str, Callable[[Any], Any]] = {
    "$array": lambda array: _array_from_json(array["dtype"], array["shape"], array["data"]),
    "$bytes": base64.b64decode,
    "$complex": lambda parts: complex(*map(_from_json, parts)),
    "$float": float,
    "$tuple": lambda items: tuple(map(_from_json, items)),
}


def _float_to_json(value: float) -> Any:
    return float(value) if math.isfinite(value) else {"$float": str(float(value))}


# A name that begins with $ has one $ more.


def _dict_to_json(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    for name in values:
        if not isinstance(name, str):
            raise TypeError(f"{where} has the name {name!r}, which is no str")
    return {("$" + name if name[:1] == "$" else name): _to_json(it, f"{where}.{name}") for name, it in values.items()}


def _dict_from_json(members: Mapping[str, Any]) -> dict[str, Any]:
    return {(name[1:] if name[:1] == "$" else name): _from_json(value) for name, value in members.items()}


# Arrays: items in C order


def _array_to_json(array: NDArray[Any]) -> dict[str, Any]:
    return {"dtype": _dtype_to_json(array.dtype), "shape": list(array.shape), "data": _items(array.reshape(-1))}


def _dtype_to_json(dtype: np.dtype[Any]) -> Any:
    if not _is_plain_dtype(dtype):
        raise TypeError(f"an array of type {dtype} cannot be published")
    if dtype.names is None:
        return dtype.str
    fields = []
    for name in dtype.names:
        field = dtype[name]
        fields.append([name, _dtype_to_json(field.base), *([list(field.shape)] if field.shape else [])])
    return fields


def _items(flat: NDArray[Any]) -> Any:
    if flat.dtype.names is not None:
        columns = []
        for name in flat.dtype.names:
            field = flat[name]
            items = _items(field.reshape(-1))
            size = math.prod(field.shape[1:])
            is_array = flat.dtype[name].shape != ()
            columns.append([items[i * size : (i + 1) * size] for i in range(len(flat))] if is_array else items)
        return [list(row) for row in zip(*columns)]
    if flat.dtype.kind in "Mm":
        return flat.astype(flat.dtype.newbyteorder("=")).view(np.int64).tolist()
    if flat.dtype.kind in "SV":
        return [base64.b64encode(item).decode() for item in flat.tolist()]
    if flat.dtype.kind == "c":
        return [[_named(value.real), _named(value.imag)] for value in flat.tolist()]
    if flat.dtype.kind == "f":
        return [_named(value) for value in flat.tolist()]
    return flat.tolist()


def _named(value: float) -> Any:
    return value if math.isfinite(value) else str(value)


def _array_from_json(dtype: Any, shape: list[int], items: list[Any]) -> NDArray[Any]:
    return _array(_dtype_from_json(dtype), items).reshape(shape)


def _dtype_from_json(dtype: Any) -> np.dtype[Any]:
    if isinstance(dtype, str):
        return np.dtype(dtype)
    return np.dtype([(name, _dtype_from_json(inner), *map(tuple, shape)) for name, inner, *shape in dtype])


def _array(dtype: np.dtype[Any], items: list[Any]) -> NDArray[Any]:
    if dtype.names is not None:
        rows = np.empty(len(items), dtype)
        for index, name in enumerate(dtype.names):
            field, column = dtype[name], [row[index] for row in items]
            if field.shape:
                column = [item for several in column for item in several]
            rows[name] = _array(field.base, column).reshape(len(items), *field.shape)
        return rows
    if dtype.kind in "Mm":
        return np.array(items, np.int64).view(dtype.newbyteorder("=")).astype(dtype)
    if dtype.kind in "SV":
        padded = b"".join(base64.b64decode(item).ljust(dtype.itemsize, b"\0") for item in items)
        return np.frombuffer(bytearray(padded), dtype) if dtype.itemsize else np.empty(len(items), dtype)
    if dtype.kind == "c":
        return np.array([complex(float(re), float(im)) for re, im in items], dtype)
    if dtype.kind == "f":
        return np.array([float(item) for item in items], dtype)
    return np.array(items, dtype)
