"""Package latte_core.training."""
