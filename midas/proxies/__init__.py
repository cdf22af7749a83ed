"""What can be said of a cell without training it? Scores of an untrained network on one batch, by their published definitions."""
