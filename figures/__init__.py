"""What a person sees: command line, figures, tables and the one-file report. Nothing here computes a result.

Every figure function takes a finished ``Study`` and returns a ``matplotlib.figure.Figure``; ``write_figures``,
``write_tables`` and ``write_report`` put them into a run folder, with equal bytes for equal studies. This file imports
neither matplotlib nor torch, so that ``--help`` stays quick.
"""
