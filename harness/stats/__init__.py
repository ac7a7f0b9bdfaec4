"""Is B better than A, and how sure are we? Pure functions from the values of trials to estimates and verdicts.

Three rules hold everywhere:
- two questions, two answers. On these tasks chance is in their trials only; on tasks like these the tasks are the
  sample. Neither answer is taken for the other.
- a number that the data cannot give is None, with a reason in words.
- a trial that does not count (an error of the infrastructure, a variant that was not applied) is no failure: it is
  left out, counted, and bounded.

The modules, each importing only those before it:
- `data`: the values that go in; `results`: the numbers and verdicts that come out;
- `arrays`: the trials as arrays, and their means by task;
- `suite`: rates and scores on these tasks; `population`: on tasks like these; `ratios`: cost and the like on both;
- `rates`: one variant's pass rate, score, or skewed mean, with its interval;
- `verdict`: improvement, regression, equivalent or inconclusive, and correction for several comparisons;
- `advice`: the size that would settle an open question, and the smallest difference that a design finds;
- `frontier`: the same before there are any trials;
- `taskwise`: pass@k, pass^k, which tasks are lost, gained or flaky;
- `sequential`: levels that stay valid under looking again and again;
- `sides`: which method answers which question of which metric; `compare`: all of it for a whole run.

`data`, `results` and `verdict` need the standard library only. The others import NumPy and SciPy, which take half a
second to load: import `compare` in the function that calls it.
"""
