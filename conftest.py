"""What the project's own tests need from pytest."""

pytest_plugins = ["pytester"]
