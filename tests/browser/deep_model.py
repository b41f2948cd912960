"""The model of the app in the page tests."""

PAIRS = 20  # of blocks: so that a run of a hundred steps outlasts whatever a test does meanwhile
