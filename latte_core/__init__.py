"""Latte Studio's engine: prompts to short videos with Latte, the latent diffusion transformer."""
