"""One ``select()`` over several services: planned as a tree, cut into pieces, finished in process.

A statement comes in as SQL in PostgreSQL's dialect with tables named ``service.table`` (``dialect.py``). ``planner.py``
makes a ``Plan`` of it, frozen data that is kept by the statement's text; ``executor.py`` runs the pieces on the
session's own connections and hands the rest to DuckDB (``finish.py``).
"""
