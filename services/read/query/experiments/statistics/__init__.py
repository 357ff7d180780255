"""The honest comparison of runs: pure functions, from what each run has to what may be said.

The item is the unit of every test: repetitions of an item are not independent of each other, so each item counts once,
with the mean of its repetitions. SciPy and statsmodels, which are slow to import, are imported by `comparison` and what
it imports: import that late. docs/experiments-statistics.md says what each figure means, decision 0018 why.
"""
