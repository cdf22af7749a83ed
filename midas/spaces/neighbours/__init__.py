"""Which cells are near a cell? Distances, neighbours and shortest paths in a space, without a number of any of them.

Definitions are those of A2M (Gambella, Pittorino and Roveri, arXiv 2503.10404): two cells are as far apart as the changes that
lead from one to the other. Nothing here needs torch, and nothing knows what a cell is worth.
"""
