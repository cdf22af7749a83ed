"""The groups of a configuration that a step receives beside the method: how it is searched, trained and measured.

Defaults are the paper's protocol; what the paper leaves open and this project decides is marked [D].
"""

from __future__ import annotations

from copy import copy
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, create_model, model_serializer, model_validator
from pydantic.fields import FieldInfo

from midas.config.kinds import BelowOne, Cells, Fraction, Location, Name, Positive, Precision, Rate, Strict
from midas.config.protocols import expanded


def _with_default(field: FieldInfo) -> FieldInfo:
    """The same key, which may be left out."""
    found = copy(field)
    found.default = None
    return found


class Search(Strict):
    """Bilevel search: weights on one half of the training images, architecture on the other, batch by batch."""

    protocol: Literal["D50", "N100", "A50"] | None = Field(
        None,
        description="an original's settings in one word, where the keys beside it don't say otherwise: D50 (DARTS), N100 (most "
        "on NAS-Bench-201), A50 (the authors of NAS-Bench-201)",
    )
    channels: Positive = Field(16, description="initial channels of the supernet")
    cells: Cells = Field(
        description="cells of the supernet: in all (DARTS) or in each of the three stages (NAS-Bench-201)"
    )
    epochs: Positive = Field(description="epochs of the search")
    batch_size: Annotated[int, Field(ge=2)] = Field(64, description="images in a batch, of either half")
    first_images: Annotated[int, Field(ge=2)] | None = Field(
        None,
        description="of the training images the first so many alone are searched on, their first half for the weights, the "
        "second for the architecture (DARTS-Bench-Suite: 25000 of CIFAR-10); goes before cifar10_split; null: all images",
    )
    lr: Rate = Field(0.025, description="SGD learning rate of the weights at the start, annealed by a cosine")
    lr_min: Rate = Field(0.001, description="learning rate that the cosine ends at")
    momentum: Fraction = Field(0.9, description="SGD momentum of the weights")
    weight_decay: Rate = Field(3e-4, description="weight decay of the weights")
    clip: Rate = Field(5.0, description="largest norm of the weights' gradient, 0 for no clipping")
    arch_lr: Rate = Field(3e-4, description="Adam learning rate of the architecture parameters")
    arch_betas: tuple[BelowOne, BelowOne] = Field((0.5, 0.999), description="Adam betas of the architecture parameters")
    arch_weight_decay: Rate = Field(1e-3, description="weight decay of the architecture parameters")
    order: Literal["architecture_first", "weights_first"] = Field(
        "architecture_first", description="which of the two learns first from a pair of batches"
    )
    valid_batches: Literal["shuffled", "fresh", "random"] = Field(
        "shuffled",
        description="the architecture's batches: each image once an epoch; each batch from a fresh shuffle (DARTS and most); or "
        "each image drawn by itself (the authors of NAS-Bench-201)",
    )
    nesterov: bool = Field(False, description="SGD with Nesterov's momentum (the authors of NAS-Bench-201: true)")
    clip_architecture: bool = Field(
        False,
        description="whether the norm that is clipped counts the gradient of the architecture's last step too (most code on "
        "NAS-Bench-201: true)",
    )
    statistics: Literal["batch", "running"] = Field(
        "batch",
        description="batch normalisation where the supernet is evaluated (the dump, `selection`, the attack of "
        "`perturbation`): by the batch's own mean and variance, or by running ones, which every pass in training moves (DARTS; "
        "needs fast: false). With running ones valid_loss and valid_accuracy of an epoch, and so `taken`, are those of the whole "
        "validation half at its end",
    )
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
        "launches",
    )
    triton: bool = Field(
        False,
        description="on a GPU, statistics and sums of maps, their gradients and the attention by kernels in Triton, which comes "
        "with torch there; needs fast. Values differ by rounding only",
    )

    _expanded = model_validator(mode="before")(expanded)


class _Changes(Strict):
    """Keys of which only those are written down that were given."""

    @model_serializer(mode="wrap")
    def _given(self, everything: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in everything(self).items() if key in self.model_fields_set}


SearchChanges = create_model(  # type: ignore[call-overload]
    "SearchChanges",
    __base__=_Changes,
    __doc__="Settings of a search that replace others; what isn't given stays.",
    **{name: (found.annotation, _with_default(found)) for name, found in Search.model_fields.items()},
)


class Retrain(Strict):
    """Training a found cell from scratch on all training images, or all but those that are left out."""

    channels: Positive = Field(36, description="initial channels of the network")
    cells: Cells = Field(20, description="cells: in all (DARTS) or in each of the three stages (NAS-Bench-201)")
    epochs: Positive = Field(600, description="epochs of training")
    batch_size: Annotated[int, Field(ge=2)] = Field(96, description="images in a batch")
    leave_out: Annotated[int, Field(ge=0)] = Field(
        0,
        description="training images at the front that a cell is not trained on, e.g. those that it was searched on "
        "(DARTS-Bench-Suite: 25000 of CIFAR-10)",
    )
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


RetrainChanges = create_model(  # type: ignore[call-overload]
    "RetrainChanges",
    __base__=_Changes,
    __doc__="Settings of a retraining that replace others; what isn't given stays.",
    **{name: (found.annotation, _with_default(found)) for name, found in Retrain.model_fields.items()},
)


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
