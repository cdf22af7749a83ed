"""A trained network as one file: its weights as safetensors, and in their metadata all that is needed to build and to use it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from midas.networks.skeletons import Skeleton, build
from midas.spaces.genotype import Genotype, parse


@dataclass(frozen=True)
class Description:
    """What a network is.

    Attributes:
        genotype: text form of its cell.
        space: space whose networks the cell forms (`Genotype.space`).
        channels: initial channels.
        cells: see `midas.networks.skeletons.build`.
        classes: number of classes.
        image: height and width of the images that it was trained on.
        mean: of each channel of those images, in units of a pixel's 0..255.
        std: standard deviations likewise; an image enters as (pixels - mean) / std.
        auxiliary: whether it has an auxiliary head.
        imagenet: whether it has the stem for large images.
    """

    genotype: str
    space: str
    channels: int
    cells: int
    classes: int
    image: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    auxiliary: bool = False
    imagenet: bool = False

    @classmethod
    def of(
        cls, genotype: Genotype, settings: Any, image: tuple[int, int], classes: int, mean: Any, std: Any
    ) -> Description:
        """Of a network that was trained by `settings` (a `Retrain` or a `Transfer`)."""

        def each(values: Any) -> tuple[float, ...]:
            return tuple(float(value) for value in torch.as_tensor(values).flatten())

        sizes = (settings.channels, settings.cells, classes, image)
        auxiliary, imagenet = settings.auxiliary > 0, hasattr(settings, "image_size")
        return cls(str(genotype), genotype.space, *sizes, each(mean), each(std), auxiliary, imagenet)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Pixels [n, 3, h, w] of 0..255 as the network wants them."""
        mean, std = (torch.tensor(values, device=pixels.device).view(1, 3, 1, 1) for values in (self.mean, self.std))
        return (pixels.float() - mean) / std


def save_network(network: nn.Module, description: Description, path: Path) -> None:
    """Write weights as safetensors, with what the network is as JSON under the key `network` of their metadata."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    # one key: safetensors writes several in an order that differs from call to call, and equal runs give equal bytes
    path.write_bytes(save(tensors, {"network": json.dumps(asdict(description))}))


def load_network(path: Path, device: torch.device | str = "cpu") -> tuple[Skeleton, Description]:
    """A network that `save_network` wrote, in evaluation mode, and what it is.

    Raises:
        ValueError: the file can't be read, or doesn't say what it is.
    """
    try:
        with safe_open(path, "pt", str(device)) as file:
            told = json.loads(file.metadata()["network"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        ends = {name: tuple(told[name]) for name in ("image", "mean", "std")}
        description = Description(**{**told, **ends})
        if [len(ends[name]) for name in ("image", "mean", "std")] != [2, 3, 3]:
            raise ValueError("image, mean or std has another length")
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a saved network whose metadata say what it is (key network): {error}") from error
    genotype = parse(description.genotype, "darts" if description.space == "nas_bench_201" else description.space)
    sizes = (description.channels, description.cells, description.classes, description.auxiliary, description.imagenet)
    network = build(genotype, *sizes)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"{path}: its weights are not those of what its metadata say") from error
    return network.to(device).eval(), description
