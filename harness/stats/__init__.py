"""Is B better than A, and how sure are we? Pure functions from the values of trials to estimates and verdicts.

Three rules hold everywhere:
- tasks are the clusters. An interval speaks about tasks like these, not only about these; trials of one task are not
  independent of each other.
- a number that the data cannot give is None, with a reason in words.
- a trial that does not count (an error of the infrastructure, a variant that was not applied) is no failure: it is
  left out, counted, and bounded.

The modules, each importing only those before it:
- `data`: the values that go in; `results`: the numbers and verdicts that come out;
- `arrays`: the trials as arrays, and their means by task;
- `rates`: one variant's pass rate, score, or skewed mean, with its interval;
- `paired`: a variant against the baseline, task by task;
- `verdict`: improvement, regression, equivalent or inconclusive, and correction for several comparisons;
- `power`: the smallest effect that could have been seen, and the size that would settle an open question;
- `taskwise`: pass@k, pass^k, and which tasks flipped or are flaky;
- `sequential`: levels that stay valid under looking again and again;
- `compare`: all of it for a whole run.

`data`, `results` and `verdict` need the standard library only. The others import NumPy and SciPy, which take half a
second to load: import `compare` in the function that calls it.
"""
