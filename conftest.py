"""What the project's own tests need from pytest."""

import os
import sys

pytest_plugins = ["pytester"]

# The tests start hundreds of Python processes. Where an image forbids bytecode, each would compile all that it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
