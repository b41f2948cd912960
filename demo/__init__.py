"""The page of Latte Studio."""
