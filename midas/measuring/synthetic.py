"""What is timed? A search that is given its batches one by one, and random images for it."""

from __future__ import annotations

import torch
from torch import Tensor

from midas.config.method import Method
from midas.config.settings import Search
from midas.images.seeds import seed_step
from midas.methods.composition import compose
from midas.methods.passes import Batch
from midas.spaces import get_space
from midas.training.bilevel import Bilevel, make_supernet
from midas.training.recorded import Recorded
from midas.training.sums import SearchSums


class SyntheticSearch:
    """A search that is given its batches one by one.

    Args:
        space: name of the space.
        method: of the search.
        settings: of the search.
        classes: number of classes.
        device: that it runs on.
    """

    def __init__(self, space: str, method: Method, settings: Search, classes: int, device: torch.device):
        seed_step(0, "synthetic", 0, 0)
        composition = compose(method, get_space(space), settings.epochs)
        self.supernet = make_supernet(composition, settings, classes, device)
        self._bilevel, self._sums = Bilevel(self.supernet, settings, device, composition.learning), SearchSums()
        self._learns = composition.learns(settings.epochs - 1)  # not as in the epochs that only warm up
        self._records = settings.cuda_graph and device.type == "cuda"
        self._batches: list[Tensor] = []
        self._recorded: Recorded | None = None

    def step(self, train: Batch, valid: Batch) -> None:
        """One bilevel step: of the architecture on `valid`, then of the weights on `train`."""
        if not self._records:
            self._bilevel.step(train, valid, self._sums, self._learns)
            return
        if self._recorded is None:
            self._batches = [x.clone() for x in (*train, *valid)]
            self._recorded = Recorded(self._step)
        for own, given in zip(self._batches, (*train, *valid), strict=True):
            own.copy_(given)
        self._recorded()

    def _step(self) -> None:
        x, y, other_x, other_y = self._batches
        self._bilevel.step((x, y), (other_x, other_y), self._sums, self._learns)

    @property
    def passes(self) -> tuple[int, int]:
        """Passes forward and backward, and forward alone, until now; what a CUDA graph repeats isn't counted."""
        return self._bilevel.passes.counted

    @torch.no_grad()
    def test(self, batch: Batch) -> None:
        """One forward pass, as for the dump at the end of a search."""
        self._bilevel.passes.loss(*batch)


def random_batch(images: int, image: tuple[int, int], classes: int, device: torch.device) -> Batch:
    """Normal pixels and uniform labels."""
    pixels = torch.randn(images, 3, *image, device=device)
    return pixels, torch.randint(classes, (images,), device=device)
