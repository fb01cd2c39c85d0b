"""Benchmarks: the rows of Ray's own microbenchmark and more, on several systems, interleaved in one run.

Run ``python -m benchmarks --help`` from the root of the repository; ``docs/benchmarks.md`` says what is
measured and how.

Modules: :mod:`~benchmarks.model` (rows, programs, themes), :mod:`~benchmarks.meter` (the timing loop),
:mod:`~benchmarks.systems` (one adapter per system), :mod:`~benchmarks.rows` (the programs, by theme),
:mod:`~benchmarks.floors` (the same work on bare sockets and memory), :mod:`~benchmarks.child` (the process that runs
one theme on one system), :mod:`~benchmarks.runner` (which process runs when), :mod:`~benchmarks.goals`,
:mod:`~benchmarks.report` and :mod:`~benchmarks.plot`. Only the standard library is imported at module
level by what runs inside a system's process, so that it works in an interpreter that has, say, Ray but not Skate.
"""
