"""Package latte_core.checkpoints."""
