"""The supernet: all candidates of a cell at once, mixed by weights that may depend on the image."""

from midas.supernet.network import Supernet

__all__ = ["Supernet"]
