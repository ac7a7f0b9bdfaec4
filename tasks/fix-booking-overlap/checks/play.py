"""Plays a day, given as JSON on stdin, on the repo's Calendar, and prints what each call returned or raised."""

import json
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, ".")

from rooms import Calendar, Conflict  # noqa: E402


def outcome(room, method, arguments):
    try:
        return getattr(room, method)(*arguments)
    except Conflict:
        return "Conflict"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


answers = []
for day in json.load(sys.stdin):
    room = Calendar(*day["hours"])
    answers.append([outcome(room, method, arguments) for method, *arguments in day["calls"]])
print(json.dumps(answers))
