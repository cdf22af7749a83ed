"""Numbers over seeds, beside published ones, as tables."""
