"""What the project's own tests need from pytest."""

import os
import sys

import pytest

pytest_plugins = ["pytester"]

# The tests start hundreds of Python processes. Where an image forbids bytecode, each would compile all that it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """One worker more than there are cores: many of the tests wait for a process most of their time."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None  # xdist's own way to say another number
    return (os.cpu_count() or 1) + 1
