"""How long does it take, and how much memory? Steps timed on random images, methods side by side."""
