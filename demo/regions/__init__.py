"""The page's regions, one module each: `build_<region>(studio, ...)` lays its components out.

A region returns a frozen dataclass of the components that events read and write. ui.py puts the
regions together; what happens between them is in wiring.py.
"""
