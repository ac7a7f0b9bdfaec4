"""Is B better than A, and how sure are we? Pure functions from the values of trials to estimates and verdicts.

What holds everywhere:
- tasks are the clusters. An interval speaks about tasks like these, not only about these; trials of one task are
  no independent witnesses of it.
- a number that the data cannot give is None, with a reason in words.
- what does not count (errors of the infrastructure, variants that were not applied) is no failure: it is left
  out, counted, and bounded.

The rooms, each importing only those before it:
- `data`: what goes in, and the numbers that come out;
- `rates`: one variant's pass rate, score, or skewed mean, with its interval;
- `paired`: a variant against the baseline, task by task;
- `verdict`: improvement, regression, equivalent or inconclusive, and correction for several comparisons;
- `power`: the smallest effect that could have been seen, and what would settle an open question;
- `taskwise`: pass@k, pass^k, and which tasks flipped or are flaky;
- `sequential`: levels that stay valid under looking again and again;
- `compare`: all of it for a whole run.

Importing this package costs nothing; its rooms import SciPy, so import them where they are used.
"""
