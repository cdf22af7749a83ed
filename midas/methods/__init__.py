"""How is a cell looked for? A method is a composition: a source of weights, how they learn, and which cell they stand for."""
