"""Package latte_core.evaluation."""
