"""Measurements by hand: speed against plain code, scaling, and checks on a GPU. Nothing in the pipeline imports them."""
