"""Package latte_core.media."""
