"""Runs `python3 -m ledger ARGUMENTS` for each list of arguments given as JSON on stdin, one after the other in this
process, and prints for each [exit status, standard output, standard error]."""

import contextlib
import io
import json
import runpy
import sys
import traceback

sys.dont_write_bytecode = True
sys.path.insert(0, ".")


def run(arguments):
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    sys.argv = ["ledger", *arguments]
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            runpy.run_module("ledger", run_name="__main__")
        except SystemExit as end:
            code = end.code or 0
        except Exception:
            traceback.print_exc()
            code = 1
    return [code, out.buffer.getvalue().decode(), err.buffer.getvalue().decode()]


print(json.dumps([run(arguments) for arguments in json.load(sys.stdin)]))
