"""Fail unless a run of the shipped tasks has left the records that it must.

python .ci/check_records.py RESULTS
"""

import json
import sys
from pathlib import Path

import jsonlines
from jsonschema import Draft202012Validator

import harness
from harness.records.reading import list_runs

results = Path(sys.argv[1])
schema = json.loads(
    (Path(harness.__file__).parent / "records" / "record.schema.json").read_text(encoding="utf-8")
)
tasks = {path.parent.name for path in Path("tasks").glob("*/task.toml")}
(run,) = list_runs(results)
with jsonlines.open(run.path / "records.jsonl") as lines:
    records = list(lines)

problems = []
for record in records:
    name = record["trial_id"]
    problems += [f"{name}: {error.message}" for error in Draft202012Validator(schema).iter_errors(record)]
    if record["outcome"] != "passed":
        problems.append(f"{name}: {record['outcome']}: {record['error']}")
    if not record["duration_ms"] or not record["tokens"]["output"] or not record["num_turns"]:
        problems.append(f"{name}: no duration, tokens or turns")
    if record["model_source"] != "replay" or record["sandbox"]["kind"] != "local":
        problems.append(f"{name}: neither replayed nor local")
    if record["replay_by_hand"] is not True or record["tampering"]:
        problems.append(f"{name}: not by hand, or protected files were touched: {record['tampering']}")
    if not record["tools"] or any(tool["errors"] for tool in record["tools"].values()):
        problems.append(f"{name}: no tools, or calls that failed: {record['tools']}")
    for file in (record["transcript"], record["diff"], *(check["output"] for check in record["checks"])):
        if not (run.path / file).is_file():
            problems.append(f"{name}: {file} is missing")
if sorted(record["task"] for record in records) != sorted(tasks) or len(tasks) < 10:
    problems.append(f"{len(records)} records of {len(tasks)} tasks")
if problems:
    sys.exit("\n".join(problems))
print(f"{len(records)} records are as they must be")
