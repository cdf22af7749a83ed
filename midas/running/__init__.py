"""How a step lives: its command line, checkpoints, limits, device, and where its numbers come from."""
