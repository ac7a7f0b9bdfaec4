import sys
from pathlib import Path

from shopreport.report import build_report


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python3 -m shopreport ORDERS.csv", file=sys.stderr)
        return 2
    print(build_report(Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
