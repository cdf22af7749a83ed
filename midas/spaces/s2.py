"""RobustDARTS S2 (Zela et al., ICLR 2020; automl/RobustDARTS, src/spaces.py): skip and separable convolution everywhere."""

from midas.spaces.darts import EDGES, two_edge_space

CANDIDATES = ("skip_connect", "sep_conv_3x3")

S2 = two_edge_space("s2", (CANDIDATES,) * len(EDGES), (CANDIDATES,) * len(EDGES))
