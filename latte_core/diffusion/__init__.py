"""Schedulers, guidance and the training loss."""
