"""RobustDARTS S4 (Zela et al., ICLR 2020; automl/RobustDARTS): noise and separable convolution everywhere."""

from midas.spaces.darts import EDGES, two_edge_space

CANDIDATES = ("noise", "sep_conv_3x3")

S4 = two_edge_space("s4", (CANDIDATES,) * len(EDGES), (CANDIDATES,) * len(EDGES))
