"""RobustDARTS S3 (Zela et al., ICLR 2020; automl/RobustDARTS, src/spaces.py): S2 with the operation "none"."""

from midas.spaces.darts import EDGES, two_edge_space

CANDIDATES = ("none", "skip_connect", "sep_conv_3x3")

S3 = two_edge_space("s3", (CANDIDATES,) * len(EDGES), (CANDIDATES,) * len(EDGES))
