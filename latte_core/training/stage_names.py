"""What the stages of a recipe are called, in their order; light to import, for the command line."""

from __future__ import annotations

LEARNED = ("autoencoder", "order", "stills", "motion", "video", "turbo", "probe")
STAGES = ("autoencoder", "clips", *LEARNED[1:], "bundle", "curves")
