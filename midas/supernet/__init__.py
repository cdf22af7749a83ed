"""How are all cells computed at once? All candidates of a cell, mixed by weights that may depend on the image."""

from midas.supernet.network import Supernet

__all__ = ["Supernet"]
