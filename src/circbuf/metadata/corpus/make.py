"""Writes the corpus anew: metadata as released peers publish it, and as the JSON that it should become.

    pip install ezmsg-tools==0.9.0 numpy==1.26.4 && python make.py 0.9.0
    pip install ezmsg-tools==0.10.0              && python make.py 0.10.0

0.7 wrote `chunk_dim`, and 0.8 on `stream_dim`; nothing else of the dict has changed.
"""

import base64
import json
import math
import pathlib
import pickle
import sys
from collections import OrderedDict

import numpy as np
from ezmsg.tools.shmem.aux_meta import encode_aux
from ezmsg.util.messages.axisarray import CoordinateAxis, LinearAxis

HERE = pathlib.Path(__file__).parent

PLAIN = {
    "none": None,
    "yes": True,
    "no": False,
    "integers": [0, 1, -1, 255, 256, 65535, 65536, -(2**31), 2**31, 2**63, -(2**63), 2**64, -(2**200)],
    "floats": [0.0, -0.0, 0.1, 1e300, float("nan"), float("inf"), float("-inf")],
    "complex": 1.5 - 2j,
    "text": ["", "µV", "\0", "😀", "x" * 300],
    "bytes": [b"", b"\0\xff", b"y" * 300],
    "tuples": [(), (1,), (1, "two"), (1, 2, 3), (1, 2, 3, 4)],
    "nested": {"a": {"$b": [{"c": (1.0, [None])}]}},
    "again": [["shared"] * 3] * 3,
    "ordered": OrderedDict(b=1, a=2),
}

NUMPY = {
    "scalars": [
        np.bool_(True), np.int8(-8), np.uint16(16), np.int32(-32), np.uint64(2**64 - 1),
        np.float16(0.5), np.float32(0.1), np.float64(0.1), np.complex64(1 + 2j), np.complex128(3 - 4j),
        np.str_("µV"), np.str_(""), np.bytes_(b"raw"), np.void(b"raw\0"),
    ],
    "row": np.array((7, "x"), dtype=[("n", "u1"), ("name", "<U1")])[()],
    "date": np.datetime64("2026-11-21T03:00:00", "ns"),
    "span": np.timedelta64(5, "ms"),
    "bool": np.array([[True, False], [False, True]]),
    "ints": np.arange(6, dtype="<i2").reshape(2, 3),
    "big_endian": np.arange(3, dtype=">u4"),
    "halves": np.array([0.5, np.nan, -np.inf], dtype="<f2"),
    "singles": np.array([0.1, 1e-45, 3e38], dtype="<f4"),
    "doubles": np.array([0.1, -0.0, np.inf]),
    "complexes": np.array([1 + 2j, np.nan], dtype="<c8"),
    "fortran": np.asfortranarray(np.arange(24).reshape(2, 3, 4)),
    "strided": np.arange(10)[::3],
    "empty": np.zeros((0, 3)),
    "point": np.array(7),
    "frozen": np.frombuffer(b"\1\2\3", dtype="u1"),
    "names": np.array(["C3", "", "Fpz"]),
    "raw": np.array([b"a", b"", b"cd"]),
    "void": np.array([b"ab", b"cd"], dtype="V2"),
    "dates": np.array(["2026-11-21", "NaT"], dtype="<M8[D]"),
    "spans": np.array([1, 2], dtype="<m8[25us]"),
    "record": np.rec.array([("a", 1), ("b", 2)], dtype=[("name", "<U1"), ("n", "<i4")]),
}

TABLE = np.array(
    [("C3", "A", 1, (0.1, 0.2, 0.3), True), ("C4", "B", 2, (0.4, 0.5, np.nan), False)],
    dtype=[("label", "<U16"), ("bank", "S1"), ("elec", "<u2"), ("pos", "<f4", (3,)), ("good", "?")],
)
PADDED = np.zeros(2, dtype=np.dtype([("a", "u1"), ("b", ">f8"), ("c", [("d", "<i2"), ("e", "u1")])], align=True))
PADDED["a"], PADDED["b"], PADDED["c"]["d"] = [1, 2], [0.5, -0.5], [3, 4]


def cases():
    time = LinearAxis(unit="s", gain=0.001, offset=12.5)
    channels = CoordinateAxis(unit="", dims=["ch"], data=np.array(["C3", "C4"]))
    yield "plain", (["time", "ch"], {"time": time, "ch": channels}, PLAIN, "amplifier", "time")
    yield "numpy", (["time", "ch"], {"time": time, "ch": channels}, NUMPY, "µ", "time")
    yield "table", (["time", "ch"], {"time": time, "ch": CoordinateAxis(unit="", dims=["ch"], data=TABLE)}, {}, "", "time")
    yield "padded", (["time", "ch"], {"time": time, "ch": CoordinateAxis(unit="", dims=["ch"], data=PADDED)}, {}, "", "time")
    frequency = LinearAxis(unit="Hz", gain=0.5, offset=-3.0)
    clock = CoordinateAxis(unit="s", dims=["time"], data=np.array([1.0, 1.5, 3.0]))
    yield "spectrum", (["time", "freq"], {"time": clock, "freq": frequency}, {"a": 1}, "psd", "time")


def special(value):
    """A float as JSON has it in arrays; of 16 and 32 bits by the shortest digits."""
    return float(str(value)) if math.isfinite(value) else str(float(value))


def item(value, dtype):
    if dtype.names:
        return [field(value[name], dtype[name]) for name in dtype.names]
    match dtype.kind:
        case "c":
            return [special(value.real), special(value.imag)]
        case "f":
            return special(value)
        case "S" | "V":
            return base64.b64encode(value.tobytes() if dtype.kind == "V" else value).decode()
        case "M" | "m":
            return int(value.astype("i8"))
        case _:
            return value.item()


def field(value, dtype):
    if dtype.subdtype is None:
        return item(value, dtype)
    return [item(part, dtype.base) for part in value.flat]


def description(dtype):
    if not dtype.names:
        return dtype.str
    parts = ((name, dtype[name]) for name in dtype.names)
    return [[name, description(part.base), *([list(part.shape)] if part.subdtype else [])] for name, part in parts]


def array(value):
    items = [item(value[index], value.dtype) for index in np.ndindex(value.shape)]
    return {"dtype": description(value.dtype), "shape": list(value.shape), "data": items}


def plain(value):
    """A value of attrs as JSON has it."""
    if isinstance(value, np.ndarray):
        return {"$array": array(value)}
    if isinstance(value, (np.datetime64, np.timedelta64)) or getattr(value, "dtype", np.dtype("V")).names:
        return {"$array": array(np.array(value))}
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, tuple):
        return {"$tuple": [plain(part) for part in value]}
    if isinstance(value, list):
        return [plain(part) for part in value]
    if isinstance(value, dict):
        return {"$" * name.startswith("$") + name: plain(part) for name, part in value.items()}
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, complex):
        return {"$complex": [plain(value.real), plain(value.imag)]}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(value)}
    return value


def as_json(blob):
    payload = pickle.loads(blob)
    assert payload.pop("version") == 1
    payload.setdefault("stream_dim", payload.pop("chunk_dim", None))
    for axis in payload["axes"].values():
        if "data" in axis:
            axis |= array(axis.pop("data"))
    return payload | {"attrs": plain(payload["attrs"])}


def write(name, maker, blob):
    (HERE / f"{name}-{maker}.pickle").write_bytes(blob)
    text = json.dumps(as_json(blob), ensure_ascii=False, allow_nan=False, indent=1)
    (HERE / f"{name}.json").write_text(text + "\n")


def main(release):
    for name, arguments in cases():
        streamed = {} if name == "padded" else {"stream_dim": "time"}
        blob, dropped = encode_aux(*arguments, **streamed)
        assert not dropped, dropped
        write(name, release, blob)
    if release == "0.10.0":
        for protocol in range(2, 5):
            payload = pickle.loads((HERE / f"numpy-{release}.pickle").read_bytes())
            payload["attrs"] |= PLAIN
            del payload["attrs"]["big_endian"]  # whose order numpy changes on the way back
            write("all", f"protocol-{protocol}", pickle.dumps(payload, protocol))
        payload = {"version": 1, "dims": ["time"], "axes": {}, "attrs": {}, "key": "", "buffered_axis": "time"}
        write("older", "0.7", pickle.dumps(payload | {"chunk_dim": "time"}, 5))


if __name__ == "__main__":
    main(*sys.argv[1:])
