"""Package latte_core.model."""
