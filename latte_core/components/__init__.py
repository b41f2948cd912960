"""Package latte_core.components."""
