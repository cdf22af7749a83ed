"""How long it takes: steps timed on random images, methods side by side."""
