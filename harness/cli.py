"""The `harness` command."""


def main() -> int:
    """Run the command line."""
    return 0
