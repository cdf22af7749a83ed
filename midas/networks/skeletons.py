"""Networks: the skeletons that repeat a cell, shared by search and evaluation, and the networks of found cells.

Definitions: quark0/darts (cnn/model.py) for DARTS on CIFAR and ImageNet; D-X-Y/AutoDL-Projects (TinyNetwork) for
NAS-Bench-201.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from torch import Tensor, nn

from midas.networks.found_cells import DartsCell, Nasbench201Cell
from midas.networks.operations import Norm, ReLUConvBN
from midas.spaces import SPACES, Space
from midas.spaces.darts import DARTS
from midas.spaces.genotype import Genotype, check_nodes
from midas.spaces.nas_bench_201 import NAS_BENCH_201


class MakeCell(Protocol):
    """Makes one cell, a module from the maps of its inputs to its own map."""

    def __call__(self, kind: str, channels_in: tuple[int, ...], channels: int, reduction_prev: bool) -> nn.Module:
        """A cell.

        Args:
            kind: a kind of cell of the space.
            channels_in: channels of each of its inputs.
            channels: channels C of each of its nodes; a cell of the DARTS family puts out several, 4 C in search.
            reduction_prev: whether its first input is twice as large as its second.
        """


class Skeleton(nn.Module):
    """A network around cells, which lie in `cells`. Calling it gives the logits."""

    cells: nn.ModuleList

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes] of images [B, 3, H, W]."""
        return self.forward_auxiliary(x)[0]

    def forward_auxiliary(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits, and in training mode those of the auxiliary head where there is one; both [B, classes]."""
        raise NotImplementedError


def _head(channels: int, classes: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def _conv(channels_in: int, channels_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)


class ResidualBlock(nn.Module):
    """NAS-Bench-201's reduction between its stages: two 3x3 convolutions beside a pooled 1x1 shortcut."""

    def __init__(self, channels_in: int, channels_out: int, norm: Norm):
        super().__init__()
        self.block = nn.Sequential(
            ReLUConvBN(channels_in, channels_out, 3, 2, norm), ReLUConvBN(channels_out, channels_out, 3, 1, norm)
        )
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, 2), nn.Conv2d(channels_in, channels_out, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels_in, H, W] -> [B, channels_out, H / 2, W / 2]."""
        return self.shortcut(x) + self.block(x)


class Nasbench201Skeleton(Skeleton):
    """The network of NAS-Bench-201: a stem, three stages of cells with residual blocks between them, and a head.

    Args:
        make_cell: see `MakeCell`; cells have one input.
        channels: initial channels (the benchmark: 16).
        cells: cells of each stage (the benchmark: 5).
        classes: number of classes.
        norm: makes the normalisation outside the cells.
        space: the space.
    """

    def __init__(
        self,
        make_cell: MakeCell,
        channels: int,
        cells: int,
        classes: int,
        norm: Norm = nn.BatchNorm2d,
        space: Space = NAS_BENCH_201,
    ):
        super().__init__()
        self.stem = nn.Sequential(_conv(3, channels), norm(channels))
        self.cells = nn.ModuleList()
        before = channels
        for layer in space.skeleton(cells):
            width = layer.width * channels
            if layer.kind == "residual":
                self.cells.append(ResidualBlock(before, width, norm))
            else:
                self.cells.append(make_cell(layer.kind, (before,), width, False))
            before = width
        self.head = nn.Sequential(norm(before), nn.ReLU(), *_head(before, classes))

    def forward_auxiliary(self, x: Tensor) -> tuple[Tensor, None]:
        """Logits [B, classes] of images [B, 3, H, W]; there is no auxiliary head."""
        x = self.stem(x)
        for cell in self.cells:
            x = cell(x)
        return self.head(x), None


class AuxiliaryHead(nn.Sequential):
    """DARTS's second classifier, for maps of 8x8 pixels (CIFAR) or 7x7 (ImageNet)."""

    def __init__(self, channels: int, classes: int, imagenet: bool, norm: Norm):
        pool = nn.AvgPool2d(5, 2 if imagenet else 3, count_include_pad=False)
        first = (nn.Conv2d(channels, 128, 1, bias=False), norm(128), nn.ReLU())
        # DARTS leaves the second normalisation out on ImageNet
        second = (nn.Conv2d(128, 768, 2, bias=False), nn.Identity() if imagenet else norm(768), nn.ReLU())
        super().__init__(nn.ReLU(), pool, *first, *second, nn.Flatten(), nn.Linear(768, classes))


class DartsSkeleton(Skeleton):
    """The network of DARTS: a stem, cells that take the outputs of the two cells before them, and a head.

    Args:
        make_cell: see `MakeCell`; cells have two inputs, the older one first.
        channels: initial channels.
        cells: cells in all.
        classes: number of classes.
        auxiliary: whether there is an auxiliary head, after two thirds of the cells (DARTS: the second reduction cell).
        imagenet: a stem of three convolutions that takes 224x224 pixels to 56x56 and 28x28, instead of CIFAR's one.
        norm: makes the normalisation outside the cells.
        nodes: kind of cell -> how many nodes it puts out; None: as many as in the space's search.
        space: the space, which says where reduction cells lie.
    """

    def __init__(
        self,
        make_cell: MakeCell,
        channels: int,
        cells: int,
        classes: int,
        auxiliary: bool = False,
        imagenet: bool = False,
        norm: Norm = nn.BatchNorm2d,
        nodes: Mapping[str, int] | None = None,
        space: Space = DARTS,
    ):
        super().__init__()
        before = last = channels if imagenet else 3 * channels
        self.stem, self.second_stem = _imagenet_stems(channels, norm) if imagenet else _cifar_stems(last, norm)
        self.cells = nn.ModuleList()
        nodes = nodes or {kind: len(spec.put_out) for kind, spec in space.cells.items()}
        self.auxiliary: nn.Module | None = None
        self.auxiliary_after = 2 * cells // 3
        reduction_prev = imagenet
        for index, layer in enumerate(space.skeleton(cells)):
            width = layer.width * channels
            self.cells.append(make_cell(layer.kind, (before, last), width, reduction_prev))
            before, last = last, nodes[layer.kind] * width
            reduction_prev = layer.kind == "reduce"
            if auxiliary and index == self.auxiliary_after:
                self.auxiliary = AuxiliaryHead(last, classes, imagenet, norm)
        self.head = _head(last, classes)

    def forward_auxiliary(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits, and in training mode those of the auxiliary head where there is one; both [B, classes]."""
        before = self.stem(x)
        last, auxiliary = self.second_stem(before), None
        for index, cell in enumerate(self.cells):
            before, last = last, cell(before, last)
            if index == self.auxiliary_after and self.auxiliary is not None and self.training:
                auxiliary = self.auxiliary(last)
        return self.head(last), auxiliary


def _cifar_stems(channels: int, norm: Norm) -> tuple[nn.Module, nn.Module]:
    return nn.Sequential(_conv(3, channels), norm(channels)), nn.Identity()


def _imagenet_stems(channels: int, norm: Norm) -> tuple[nn.Module, nn.Module]:
    if channels < 2:
        raise ValueError(f"channels: {channels} is not allowed; the ImageNet network needs at least 2")
    half = channels // 2
    first = (_conv(3, half, 2), norm(half), nn.ReLU(), _conv(half, channels, 2), norm(channels))
    return nn.Sequential(*first), ReLUConvBN(channels, channels, 3, 2, norm)


SKELETONS: dict[str, Callable[..., Skeleton]] = {"nas_bench_201": Nasbench201Skeleton, "darts": DartsSkeleton}
"""Family of a space -> its skeleton."""


def build(
    genotype: Genotype, channels: int, cells: int, classes: int, auxiliary: bool = False, imagenet: bool = False
) -> Skeleton:
    """The network of a found cell, to be trained from scratch.

    Args:
        genotype: the cell.
        channels: initial channels.
        cells: cells, in all (DARTS) or in each of the three stages (NAS-Bench-201).
        classes: number of classes.
        auxiliary: whether a DARTS network gets its auxiliary head (32x32 or, with `imagenet`, 224x224 pixels only).
        imagenet: whether a DARTS network gets the stem for 224x224 pixels.

    Raises:
        ValueError: the genotype doesn't have its space's form, or the skeleton can't have so few cells.
    """
    _check(genotype, cells)
    if genotype.family == "nas_bench_201":
        if imagenet:
            raise ValueError("a NAS-Bench-201 cell has no ImageNet network; allowed: DARTS genotypes")
        nodes = genotype.cells["cell"]
        return Nasbench201Skeleton(lambda kind, channels_in, c, _: Nasbench201Cell(nodes, c), channels, cells, classes)
    return DartsSkeleton(
        lambda kind, *sizes: DartsCell(genotype, kind, *sizes),
        channels,
        cells,
        classes,
        auxiliary,
        imagenet,
        nodes={kind: len(genotype.nodes(kind)) for kind in genotype.cells},
        space=SPACES[genotype.space],
    )


def _check(genotype: Genotype, cells: int) -> None:
    space = SPACES[genotype.space]
    if (problem := space.cells_problem(cells)) is not None:
        raise ValueError(f"cells: {cells} is not allowed; {problem}")
    check_nodes(genotype)


def set_drop_path(network: nn.Module, probability: float) -> None:
    """Set the probability with which an image loses the output of an edge of a DARTS network in training."""
    for module in network.modules():
        if isinstance(module, DartsCell):
            module.drop_path.drop_prob = probability
