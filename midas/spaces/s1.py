"""RobustDARTS S1 (Zela et al., ICLR 2020; automl/RobustDARTS, src/spaces.py): two candidates on each edge, others on others.

They are the two that a search in the whole space ranked highest there.
"""

from midas.spaces.darts import two_edge_space

MAX = "max_pool_3x3"
AVG = "avg_pool_3x3"
SKIP = "skip_connect"
SEP3 = "sep_conv_3x3"
DIL3 = "dil_conv_3x3"
DIL5 = "dil_conv_5x5"

# a line for each node, an entry for each of its incoming edges, ordered by source
NORMAL = (
    (SKIP, DIL3), (SKIP, DIL5),
    (SKIP, DIL5), (SKIP, SEP3), (SKIP, DIL3),
    (MAX, SKIP), (SKIP, SEP3), (SKIP, SEP3), (SKIP, DIL3),
    (SKIP, SEP3), (MAX, SKIP), (SKIP, DIL3), (DIL3, DIL5), (DIL3, DIL5),
)  # fmt: skip
REDUCE = (
    (MAX, AVG), (MAX, DIL3),
    (MAX, AVG), (MAX, AVG), (SKIP, DIL5),
    (MAX, AVG), (MAX, SEP3), (SKIP, DIL3), (SKIP, DIL5),
    (MAX, AVG), (MAX, AVG), (SKIP, DIL5), (SKIP, DIL5), (SKIP, DIL5),
)  # fmt: skip

S1 = two_edge_space("s1", NORMAL, REDUCE)
