"""What is a found cell as a network? Operations, the skeletons that repeat a cell, and what they cost."""
