"""How does a step live? Its command line, checkpoints, limits and device, and where its numbers come from."""
