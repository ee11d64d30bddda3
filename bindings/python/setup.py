"""What pyproject.toml cannot say: the version is the library's, and one extension of each kind serves all Pythons."""

import sys
from pathlib import Path

from setuptools import Extension, setup

sys.path.insert(0, str(Path(__file__).parent))
from build_native import pkg_config

views = Extension(
    "shmhot._views",
    ["views.c"],
    define_macros=[("Py_LIMITED_API", "0x03090000")],
    include_dirs=[pkg_config("--variable=includedir")],
    library_dirs=[pkg_config("--variable=libdir")],
    libraries=["shmhot"],
    py_limited_api=True,
)

setup(
    version=pkg_config("--modversion"),
    cffi_modules=["build_native.py:builder"],
    ext_modules=[views],
    options={"bdist_wheel": {"py_limited_api": "cp39"}},
)
