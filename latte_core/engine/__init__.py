"""Package latte_core.engine."""
