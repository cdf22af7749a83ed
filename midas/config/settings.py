"""The groups of a configuration that a step receives: how a method mixes, how it is searched, trained and measured.

Defaults are the paper's protocol; what the paper leaves open and this project decides is marked [D].
"""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Positive = Annotated[int, Field(ge=1)]
Cells = Annotated[int, Field(ge=1, le=1000)]
Rate = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Precision = Literal["float32", "bfloat16"]


def _plain_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise ValueError("must be letters a-z, digits and underscores, since it names a folder")
    return name


Name = Annotated[str, AfterValidator(_plain_name)]


def expanded(path: str) -> str:
    """A path with its ``~`` and ``$NAME`` replaced, as a shell would.

    Raises:
        ValueError: there is no such user or variable.
    """
    found = os.path.expanduser(os.path.expandvars(path))
    if unset := re.search(r"\$(\w+|\{[^}]*\})", found):
        raise ValueError(f"the environment variable {unset[1].strip('{}')} is not set")
    if found.startswith("~"):
        raise ValueError(f"there is no user {found.partition('/')[0][1:]}; a folder of that name is ./{found}")
    return found


Location = Annotated[str, AfterValidator(expanded)]
"""A file or folder; ``~`` and ``$NAME`` in it are replaced."""


class Strict(BaseModel):
    """A group of keys that refuses unknown ones and never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Python takes true for 1; a key that is a number has other values."""
        assert info.field_name is not None
        if _holds_truth(value) and not _takes_truth(cls.model_fields[info.field_name].annotation):
            raise ValueError("true and false are no numbers")
        return value


def _holds_truth(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, list | tuple) and any(map(_holds_truth, value)))


def _takes_truth(annotation: Any) -> bool:
    return annotation in (bool, Any) or any(map(_takes_truth, get_args(annotation)))


class Method(Strict):
    """How the mixing weights of a node come about; a method is a composition of these choices."""

    weights: Literal["static", "attention", "random"] = Field(
        "attention",
        description="static: architecture parameters shared by all images (DARTS); attention: mosaic attention (MIDAS); random: "
        "no search, a cell drawn uniformly (the baseline that costs nothing)",
    )
    patch_size: Positive | None = Field(
        8,
        description="attention: side of a patch (PS) in pixels of the node's map, null for global average pooling ('no patch')",
    )
    distribution: Literal["edge", "node", "pairs"] | None = Field(
        None,
        description="softmax over the operations of an edge, over all (edge, operation) of a node, or over admissible pairs of "
        "edges in closed form (topology); null: attention takes pairs where a node keeps two edges, all else takes edge",
    )
    keys: Literal["shared", "per_operation"] = Field(
        "shared", description="attention: one W_K for all candidates of a node [D], or one for each operation"
    )
    mixing: Literal["image", "patch"] = Field(
        "image",
        description="attention: mix whole maps with the image's averaged weights, or each patch with its own [D]",
    )
    projections: Literal["learned", "frozen"] = Field(
        "learned", description="attention: W_Q and W_K are trained, or stay as they were drawn (an ablation)"
    )
    detach: bool = Field(
        False,
        description="attention: maps enter it without a gradient, so that the network's weights learn by way of the mixture "
        "alone [D]; in deep supernets the gradient through the attention outgrows all others",
    )
    warmup_epochs: Annotated[int, Field(ge=0)] = Field(
        0,
        description="epochs at the start of a search in which the network's weights learn alone, with the architecture as it "
        "was drawn (P-DARTS: 10, PC-DARTS: 15)",
    )
    scale: Annotated[float, Field(gt=0)] | None = Field(
        None, description="attention: factor on the query-key product (with length 1 its gain), null for 1/sqrt(d) [D]"
    )
    learn_scale: bool = Field(
        False, description="attention: that factor is learned, one for each node, and `scale` is what it begins with"
    )
    normalise: Literal["none", "layer_norm", "length"] = Field(
        "none",
        description="attention: what queries and keys are divided by before their product: nothing; their standard deviation "
        "over the d dimensions, the mean taken off before; or their length, so that logits lie between -scale and scale [D]",
    )
    activation: Literal["none", "relu", "norm_relu"] = Field(
        "none",
        description="attention: what follows the projections W_Q and W_K: nothing, ReLU, or batch normalisation and ReLU [D]",
    )
    projected: Literal["means", "maps"] = Field(
        "means",
        description="attention: what is projected: the means of maps over patches, so that an activation comes after pooling; "
        "or maps, whose activated projections are pooled over patches [D]",
    )
    weight_decay: Rate | None = Field(
        None, description="attention: weight decay of W_Q and W_K, null for arch_weight_decay of the search [D]"
    )
    decoupled_weight_decay: bool = Field(
        False,
        description="attention: W_Q and W_K decay beside Adam (AdamW), not by their gradient within it",
    )
    offer_none: bool = Field(
        False,
        description="'none' is a candidate of every edge beside the space's own, as in the published searches of DARTS, whose "
        "softmax has eight operations; it is decoded only if decode_none says so",
    )
    none_logit: Literal["zero", "learned"] = Field(
        "zero", description="attention: 'none' has the zero key, hence logit 0 [D], or one learned logit per edge"
    )
    decode_batch: Positive | None = Field(
        None,
        description="attention: images in a batch when the weights that are decoded are computed, whose statistics normalise its "
        "maps; null for as many as in search [D]",
    )
    decode_none: bool | None = Field(
        None,
        description="whether 'none' may be decoded; null: as the space says (NAS-Bench-201 yes, two-edge spaces no) [D]",
    )


ADDED = {
    "learn_scale": False, "normalise": "none", "activation": "none", "projected": "means",
    "weight_decay": None, "decoupled_weight_decay": False,
}  # fmt: skip
"""Keys that a method has since runs were published, with the values of before: what is told without them was searched so."""

DECODING = {"decode_none", "decode_batch"}
"""Keys of a method that say how a search is read: methods that differ in them alone make the same search."""


class Search(Strict):
    """First-order bilevel search: weights on one half of the training images, architecture on the other, batch by batch."""

    channels: Positive = Field(16, description="initial channels of the supernet")
    cells: Cells = Field(
        description="cells of the supernet: in all (DARTS) or in each of the three stages (NAS-Bench-201)"
    )
    epochs: Positive = Field(description="epochs of the search")
    batch_size: Annotated[int, Field(ge=2)] = Field(64, description="images in a batch, of either half")
    lr: Rate = Field(0.025, description="SGD learning rate of the weights at the start, annealed by a cosine")
    lr_min: Rate = Field(0.001, description="learning rate that the cosine ends at")
    momentum: Fraction = Field(0.9, description="SGD momentum of the weights")
    weight_decay: Rate = Field(3e-4, description="weight decay of the weights")
    clip: Rate = Field(5.0, description="largest norm of the weights' gradient, 0 for no clipping")
    arch_lr: Rate = Field(3e-4, description="Adam learning rate of the architecture parameters")
    arch_betas: tuple[BelowOne, BelowOne] = Field((0.5, 0.999), description="Adam betas of the architecture parameters")
    arch_weight_decay: Rate = Field(1e-3, description="weight decay of the architecture parameters")
    precision: Precision = Field("float32", description="bfloat16: automatic mixed precision")
    channels_last: bool = Field(True, description="memory layout of the maps; values differ by rounding only")
    fast: bool = Field(
        True,
        description="batch normalisation folded into the mixture; on a CPU also kernels that are compiled at the first "
        "use, faster gradients of depthwise convolutions, and memory kept between steps; false: torch's own. Values differ by "
        "rounding only",
    )
    merge_edges: bool | None = Field(
        None,
        description="convolutions of all edges that leave a node as one; null: on a GPU, where launches cost, not on a CPU, "
        "where the maps of one edge fit into the cache (true is faster there too for tiny maps). "
        "Another order of the parameters, so other initial values",
    )
    cuda_graph: bool = Field(
        False,
        description="on a GPU, record a bilevel step once (batches, both passes, both optimisers) and replay it, which saves the "
        "launches. Not yet tried on a GPU",
    )
    triton: bool = Field(
        False,
        description="on a GPU, statistics and sums of maps, their gradients and the attention by kernels in Triton, which comes "
        "with torch there; needs fast. Values differ by rounding only. Not yet tried on a GPU",
    )


class Retrain(Strict):
    """Training a found cell from scratch on all training images."""

    channels: Positive = Field(36, description="initial channels of the network")
    cells: Cells = Field(20, description="cells: in all (DARTS) or in each of the three stages (NAS-Bench-201)")
    epochs: Positive = Field(600, description="epochs of training")
    batch_size: Annotated[int, Field(ge=2)] = Field(96, description="images in a batch")
    lr: Rate = Field(0.025, description="SGD learning rate at the start, annealed to 0 by a cosine")
    momentum: Fraction = Field(0.9, description="SGD momentum")
    nesterov: bool = Field(False, description="SGD with Nesterov's momentum (NAS-Bench-201: true)")
    weight_decay: Rate = Field(3e-4, description="weight decay")
    clip: Rate = Field(5.0, description="largest norm of the gradient, 0 for no clipping")
    cutout: Annotated[int, Field(ge=0)] = Field(16, description="side of the square that cutout blanks, 0 for none")
    auxiliary: Rate = Field(0.4, description="weight of the auxiliary head's loss (DARTS networks), 0 for no head")
    drop_path: BelowOne = Field(0.2, description="drop-path probability at the end, linear from 0 (DARTS)")
    label_smoothing: BelowOne = Field(0.0, description="label smoothing")
    ema: BelowOne = Field(0.0, description="decay of an average of the weights that is evaluated, 0 for none")
    precision: Precision = Field("float32", description="bfloat16: automatic mixed precision")
    channels_last: bool = Field(True, description="memory layout of the maps; values differ by rounding only")


class Transfer(Strict):
    """Training a cell that was found on small images on a folder of large ones (ImageNet), by timm."""

    dataset: Name = Field(
        description="imagenet, digit_photos (embedded), or a name of the key datasets of kind folder, read as it is needed"
    )
    methods: list[Name] = Field(
        min_length=1, description="evaluated methods of the experiment whose cells are transferred"
    )
    seeds: list[Annotated[int, Field(ge=0)]] | None = Field(
        None, description="seeds that are transferred, null for all"
    )
    image_size: Positive = Field(224, description="side of the images in pixels")
    channels: Positive = Field(48, description="initial channels of the network")
    cells: Cells = Field(14, description="cells of the network")
    epochs: Positive = Field(250, description="epochs of training")
    batch_size: Annotated[int, Field(ge=2)] = Field(1024, description="images in a batch, over all GPUs")
    lr: Rate = Field(0.5, description="SGD learning rate after the warm-up, then linear to 0")
    warmup_epochs: Annotated[int, Field(ge=0)] = Field(5, description="epochs of linear warm-up")
    momentum: Fraction = Field(0.9, description="SGD momentum")
    weight_decay: Rate = Field(3e-5, description="weight decay")
    clip: Rate = Field(5.0, description="largest norm of the gradient, 0 for no clipping")
    label_smoothing: BelowOne = Field(0.1, description="label smoothing")
    auxiliary: Rate = Field(0.4, description="weight of the auxiliary head's loss, 0 for no head")
    drop_path: BelowOne = Field(0.0, description="drop-path probability at the end")
    crop_scale: Annotated[float, Field(gt=0, le=1)] = Field(
        0.08, description="augmentation: smallest share of an image that a random crop keeps"
    )
    flip: bool = Field(True, description="augmentation: mirror half of the images, where the data set allows it")
    color_jitter: Rate = Field(0.4, description="augmentation: strength of colour jitter, 0 for none")
    mixup: Rate = Field(0.0, description="alpha of mixup, 0 for none")
    cutmix: Rate = Field(0.0, description="alpha of cutmix, 0 for none")
    ema: BelowOne = Field(0.0, description="decay of an average of the weights that is evaluated, 0 for none")
    precision: Precision = Field("bfloat16", description="bfloat16: automatic mixed precision")
    channels_last: bool = Field(True, description="memory layout of the maps; values differ by rounding only")
    workers: Annotated[int, Field(ge=0)] = Field(
        8,
        description="processes that decode images, for each GPU; each holds two batches in shared memory (/dev/shm), 0: none",
    )
    gpus: Positive = Field(1, description="GPUs of one node that train together (torchrun); on a CPU, processes")


class Cost(Strict):
    """What a search costs: methods side by side in one job, in turn and repeated, on random images."""

    baseline: Name = Field(description="method that the others are compared with")
    methods: list[Name] = Field(min_length=1, description="methods whose cost is measured beside the baseline")
    repeats: Annotated[int, Field(ge=2)] = Field(
        10,
        description="how often each method takes its turn; the spread is over them, the interval of a ratio needs six",
    )
    steps: Positive = Field(3, description="search steps (architecture and weights) in one turn")
    resolutions: list[Positive] = Field(
        [], description="sides of square images at which the baseline and the first method are measured too"
    )
    patch_sizes: list[Positive] = Field([], description="patch sizes at which the first method is measured too")


class UserDataset(Strict):
    """A data set of the user's own."""

    kind: Literal["npz", "folder"] = Field(
        description="npz: x_train, y_train, x_test, y_test with images [n, height, width, 3] uint8; folder: train/ and test/ "
        "(or val/, where there is no test/) with a folder of images for each class"
    )
    path: Location = Field(description="the file or folder")
    image_size: Positive | None = Field(None, description="folder: side to which images are resized and cropped")
    flip: bool = Field(True, description="augmentation: mirror half of the images")
    padding: Annotated[int, Field(ge=0)] = Field(
        4, description="augmentation: pixels by which a random crop shifts at most"
    )
