"""Operators: a stage's tree of transforms, compiled to run on batches. Each hands its result to its children; leaves
append it to logs. What lives longer than a step is not kept here: a head has it (`streamflow/engine/heads.py`).

`compiler` chooses an operator for each step of the plan. `frames` are those on columns, `rows` those that call
functions for one element at a time, `leaves` those at the end; the leaves of side inputs stand with these, in
`streamflow/engine/sides.py`. A failing event is isolated: one by one on the row path, by bisection on the column path.
"""
