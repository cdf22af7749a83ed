"""What a found cell is as a network: operations, the skeletons that repeat a cell, and what they cost."""
