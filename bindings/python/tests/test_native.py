"""The package against the headers it is made from."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, headers

import shmhot
from shmhot import hotpath, observer, vmclock
from shmhot._handle import dtype
from shmhot._native import ffi, lib

FUNCTIONS = re.findall(r"^[a-z].*?\b(\w+)\([^()]*\);", headers(), flags=re.MULTILINE)
CONSTANTS = dict(re.findall(r"^#define (\w+) (.+)$", headers(), flags=re.MULTILINE))

# Calls that another one contains.
CONTAINED = {
    "hotpath_ring_new": "hotpath_ring_new_with",
    "hotpath_submit_close": "hotpath_submit_close_within",
    "observer_index": "enumerate",
    "observer_schema_index": "enumerate",
    "observer_set": "observer_set_f64",
    "vmclock_open": "vmclock_open_with",
}


def test_declares_what_the_headers_declare():
    assert len(FUNCTIONS) > 80
    assert len(CONSTANTS) > 100
    assert set(dir(lib)) == {*FUNCTIONS, *CONSTANTS}
    for name, value in CONSTANTS.items():
        assert getattr(lib, name) == eval(value.replace("u", ""), {"UINT32_MAX": 2**32 - 1}), name


def test_uses_every_function():
    sources = "".join(path.read_text() for path in Path(shmhot.__file__).parent.glob("*.py"))
    used = set(re.findall(r"\blib\.(\w+)", sources))
    used |= set(re.findall(r"\b(\w+)\(", (REPOSITORY / "bindings/python/views.c").read_text()))
    assert set(FUNCTIONS) - used == set(CONTAINED)
    for instead in CONTAINED.values():
        assert instead in sources


@pytest.mark.parametrize(
    "prefix, enumeration",
    [
        ("HOTPATH_OP_", hotpath.Op),
        ("HOTPATH_F_", hotpath.Flag),
        ("HOTPATH_CMD_", hotpath.Command),
        ("HOTPATH_BACKEND_", hotpath.Backend),
        ("VMCLOCK_COUNTER_", vmclock.Counter),
        ("VMCLOCK_TIME_", vmclock.TimeType),
        ("VMCLOCK_FLAG_", vmclock.Flag),
        ("VMCLOCK_STATUS_", vmclock.Status),
        ("VMCLOCK_SMEARING_", vmclock.Smearing),
        ("VMCLOCK_LEAP_", vmclock.Leap),
    ],
)
def test_enumerations_are_complete(prefix, enumeration):
    declared = {name[len(prefix) :]: getattr(lib, name) for name in CONSTANTS if name.startswith(prefix)}
    assert {name: int(member) for name, member in enumeration.__members__.items()} == declared


def test_results_have_the_fields_of_their_structs():
    def fields(name, without=()):
        names = [field for field, _ in ffi.typeof(name).fields]
        return tuple(name for name in names if name not in {"reserved", "padding", *without})

    assert vmclock.Snapshot._fields == fields("vmclock_snapshot_t")
    assert vmclock.Time._fields == fields("vmclock_time_t", ["valid"])
    assert set(observer.Worker._fields) == {"segment", *fields("observer_worker_t", ["size", "since_ns"]), "since"}
    assert hotpath.COMPLETION.names == fields("hotpath_completion_t")
    assert hotpath.COMMAND.names == fields("hotpath_command_t", ["reserved2"])


def test_arrays_have_the_layout_of_their_structs():
    struct = ffi.new("hotpath_completion_t *", {"op_kind": 1, "fd": -2, "result": -3, "buf_id": -4, "flags": 5})
    assert np.frombuffer(ffi.buffer(struct), dtype("hotpath_completion_t"))[0].item() == (1, -2, -3, -4, 5)
    values = ffi.new("observer_value_t[2]", [{"type": lib.OBSERVER_FLOAT}, {"type": lib.OBSERVER_SIGNED}])
    values[0].number.as_f64, values[1].number.as_i64 = 0.5, -7
    seen = np.frombuffer(ffi.buffer(values), observer.VALUE)
    assert (seen[0]["as_f64"], seen[1]["as_i64"]) == (0.5, -7)
    assert observer.numbers(seen).tolist() == [0.5, -7]


def test_has_the_release_of_the_library():
    manifest = (REPOSITORY / "Cargo.toml").read_text()
    assert f'\nversion = "{shmhot.__version__}"\n' in manifest


def test_refuses_a_library_of_another_version(tmp_path):
    other = tmp_path / "other.so"
    source = "unsigned shmhot_abi_version(void) { return 77; }"
    subprocess.run(["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", other], input=source, text=True, check=True)
    loaded = subprocess.run(
        [sys.executable, "-c", "import shmhot"],
        env={**os.environ, "LD_PRELOAD": str(other)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert loaded.returncode == 1
    assert "libshmhot has ABI version 77, and this package was built for 0: install" in loaded.stderr
