"""Data: the captioned world that the bundled model is trained on.

`sprites` holds the subjects and their pictures, `scenes` draws the places, `world` moves a
subject through a scene and writes the caption. Everything is drawn on the fly from a seed.
"""
