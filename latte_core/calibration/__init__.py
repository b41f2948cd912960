"""Find step plans for a model: which steps can be left out, by what the final video loses.

`trajectory` records full runs and measures how much an error at each step weighs in the end,
`search` finds the best table for every amount of work from that, `check` measures what a plan
keeps on other prompts. `python -m latte_core calibrate FOLDER` does all three.
"""
