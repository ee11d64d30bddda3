"""What pyproject.toml cannot say: the version is the library's, and one extension serves all Pythons."""

import sys
from pathlib import Path

from setuptools import setup

sys.path.insert(0, str(Path(__file__).parent))
from build_native import pkg_config

setup(
    version=pkg_config("--modversion"),
    cffi_modules=["build_native.py:builder"],
    options={"bdist_wheel": {"py_limited_api": "cp39"}},
)
