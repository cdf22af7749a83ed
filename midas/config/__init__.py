"""What can be asked? Every key of a configuration, typed, and the groups that a step receives. Nothing here needs torch."""
