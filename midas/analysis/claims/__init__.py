"""Do the paper's claims hold? Each with its numbers and its rule."""
