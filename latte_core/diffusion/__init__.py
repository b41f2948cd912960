"""Package latte_core.diffusion."""
