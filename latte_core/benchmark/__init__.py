"""Measure the engine against the stock pipeline: `python -m latte_core bench`.

`shapes.py` makes both of the same weights, `subjects.py` runs them, `measure.py` takes turns and
clocks them, `fidelity.py` compares what comes out, `report.py` writes it down.
"""
