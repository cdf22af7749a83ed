"""Whether the paper's claims hold, each with its numbers and its rule."""
