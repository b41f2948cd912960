"""Package latte_core.data."""
