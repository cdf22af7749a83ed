"""What is asked: every key of a configuration, typed, and the groups that a step receives. Nothing here needs torch."""
