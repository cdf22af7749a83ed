"""How does a GPU compute sums of maps and attention? By Triton kernels: what `midas.supernet.cpu` is for a CPU."""

import os

from midas.supernet.compiler import cache_folder

# Triton keeps its kernels in the home; without one, in a folder "~" of the current one
if not {"TRITON_CACHE_DIR", "TRITON_HOME"} & os.environ.keys() and not os.access(os.path.expanduser("~"), os.W_OK):
    os.environ["TRITON_CACHE_DIR"] = str(cache_folder() / "triton")
