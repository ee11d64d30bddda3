"""Declares to cffi what the C headers declare, and compiles shmhot._native from it."""

import re
import subprocess
from pathlib import Path

from cffi import FFI


def pkg_config(*options: str) -> str:
    """What pkg-config tells of the installed library."""
    return subprocess.check_output(["pkg-config", *options, "shmhot"], text=True).strip()


def declarations(include: Path) -> str:
    """All headers that shmhot.h includes, as cffi's parser takes them."""
    names = re.findall(r'#include "(.*)"', (include / "shmhot.h").read_text())
    text = "\n".join((include / name).read_text() for name in names)
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    text = re.sub(r"#ifdef __cplusplus.*?#endif[^\n]*", "", text, flags=re.DOTALL)
    # Expressions are left to the compiler. A guard has no value, and goes with the other directives.
    text = re.sub(r"^(#define \w+) (?!-?\d\w*$).+$", r"\1 ...", text, flags=re.MULTILINE)
    return re.sub(r"^#(?!define \w+ ).*$", "", text, flags=re.MULTILINE)


SYSTEM = """
struct sockaddr { ...; };
struct iovec { void *iov_base; size_t iov_len; };
"""

builder = FFI()
builder.cdef(SYSTEM + declarations(Path(pkg_config("--variable=includedir"))))
builder.set_source(
    "shmhot._native",
    "#include <shmhot.h>",
    include_dirs=[pkg_config("--variable=includedir")],
    library_dirs=[pkg_config("--variable=libdir")],
    libraries=["shmhot"],
    py_limited_api=True,
)
