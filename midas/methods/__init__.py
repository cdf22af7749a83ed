"""How it is looked for: where mixing weights come from, what they are learned by, and which cell they stand for."""
