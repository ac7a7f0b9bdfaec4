"""Many trials at once, against a server that has no sandboxes."""

from __future__ import annotations

from pathlib import Path

from benchmarks.stub_run import run_trials, stub_server
from harness.records.reading import read_records

TRIALS = 60


def test_trials_share_what_is_the_same_for_all(tmp_path: Path) -> None:
    """Each has its two sandboxes, one after the other, its record and its end; the template's id, asked for once, is in
    all records. Two sandboxes more try the network."""
    with stub_server(0.1) as server:
        measured = run_trials(server, tmp_path, TRIALS, TRIALS)
        saw = server.saw()
    assert measured.outcomes == {"passed": TRIALS}
    assert (saw["made"], saw["now"], saw["asked"]) == (2 * TRIALS + 2, 0, 1)
    assert saw["most"] <= TRIALS
    (run,) = (path for path in (tmp_path / "results").iterdir() if path.is_dir())
    records = read_records(run).records
    assert sorted(record.index for record in records) == list(range(1, TRIALS + 1))
    assert {record.sandbox.template_id for record in records} == {"claude"}
