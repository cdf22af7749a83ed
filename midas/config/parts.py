"""Parts that a method may have beside its source of weights, each with its constants; a part that is null is not there.

Defaults are those of the original code, for NAS-Bench-201 where it differs from the DARTS space.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from midas.config.kinds import Fraction, Positive, Rate, Strict

Above = Annotated[float, Field(gt=0)]


class Unrolled(Strict):
    """Second-order architecture step: through one step of the weights (DARTS, Liu et al., ICLR 2019)."""

    radius: Above = Field(
        0.01, description="length of the step by which the weights are moved for the finite difference"
    )


class Flat(Strict):
    """Architecture step towards a flat minimum of the validation loss (A2M): the gradient where the loss was climbed by rho."""

    rho: Rate = Field(
        0.01, description="factor on the gradient by which the architecture climbs first (DARTS space: 0.1)"
    )
    epsilon: Above = Field(0.01, description="step of the finite difference, a factor on the second gradient")


class Beta(Strict):
    """A term of the architecture's loss: mean log-sum-exp of an edge's logits (beta-DARTS, Ye et al., CVPR 2022)."""

    per_epoch: Rate = Field(0.5, description="its factor is this times the epoch, which counts from 0")
    joint: Literal["mean", "sum"] = Field(
        "mean", description="in a space with two kinds of cell: mean of their two terms, or their sum [D]"
    )


class Alignment(Strict):
    """A term of the weights' loss: gradients of the cells' mixing weights that point one way (Lambda-DARTS, ICLR 2023)."""

    weight: Rate = Field(0.25, description="its factor in the last epoch, linear from 0")
    epsilon: Above = Field(1e-4, description="length of the step of the finite difference (DARTS space: 1e-3)")
    signs: bool = Field(False, description="compare by absolute values (signcorr), not by the cosine (corr)")


class Perturbation(Strict):
    """Other mixing weights in the step of the network's weights alone (SDARTS, Chen and Hsieh, ICML 2020)."""

    kind: Literal["random", "adversarial"] = Field(
        "random", description="drawn uniformly (RS), or an attack on the loss (ADV)"
    )
    first: Rate = Field(0.03, description="largest change of a weight in the first epoch")
    last: Rate = Field(0.3, description="and that towards which it grows, linearly")
    steps: Positive = Field(7, description="adversarial: steps of the attack")


class Dirichlet(Strict):
    """Weights drawn from a Dirichlet of concentration ELU(alpha) + 1, once in each forward pass (DrNAS, ICLR 2021)."""

    variant: Literal["code", "paper"] = Field(
        "code", description="what is decoded: the softmax of the logits (the authors' code), or the mean (paper)"
    )
    regulariser: Literal["l2", "kl"] = Field(
        "l2",
        description="l2: logits decay by arch_weight_decay of the search; kl: a term of the architecture's loss in its place, "
        "the divergence from the uniform Dirichlet, summed over edges",
    )
    factor: Rate = Field(1e-3, description="kl: its factor")
    keep: list[Positive] = Field(
        [],
        description="operations that an edge keeps in each stage but the first, by their logits; stages are equally long, none: "
        "one stage, in which all take part (originals with partial channels: [3], DARTS space [4])",
    )
    wait: Annotated[int, Field(ge=0)] = Field(
        0, description="epochs at the start of each stage in which logits do not learn (originals with stages: 10)"
    )


class Partial(Strict):
    """Operations that see a part of the channels; the rest goes by (PC-DARTS, Xu et al., ICLR 2020)."""

    channels: Positive = Field(
        4, description="k: operations see the first 1/k of a map's channels; it divides the channels of the search"
    )
    edges: bool = Field(
        True,
        description="a learned weight of each edge, softmax over those that end in a node (NAS-Bench-201, in others' code: "
        "false, a plain sum)",
    )


class Oles(Strict):
    """Convolutions whose weights stop learning for good where gradients of the two halves part ways (OLES, NeurIPS 2023)."""

    threshold: float = Field(0.4, description="score below which the operation of an edge of a cell is frozen")
    window: Positive = Field(
        20, description="the scores of this many checks and one more, one a step, are summed and divided by it"
    )
    compare: Literal["accumulated", "validation"] = Field(
        "accumulated",
        description="what is compared with the last gradient of a training batch: its sum with the validation batch's, as in the "
        "original code, or that gradient alone, as in the paper",
    )


class Selection(Strict):
    """Operations chosen by what their removal costs, in epochs that follow those of the search (DARTS-PT, ICLR 2021)."""

    interval: Positive = Field(
        5, description="epochs from one decision (of an edge, then of a node's edges) to the next"
    )
    by: Literal["accuracy", "loss"] = Field(
        "accuracy", description="what of the supernet is measured on the whole validation half"
    )
    rate: Rate = Field(0.1, description="learning rate of the weights in these epochs, a factor on lr of the search")
    fixed: bool = Field(
        False, description="the architecture stays as it was drawn, in the search too, where the weights learn alone"
    )


class ExtraSkip(Strict):
    """On every edge one more skip connection, outside the softmax, whose weight falls (DARTS-, Chu et al., ICLR 2021)."""

    decay: Literal["linear", "cosine", "slow_cosine", "none"] = Field(
        "linear",
        description="how its weight falls over the epochs: (E - e) / E, half or a quarter of a cosine, or not at all",
    )
    first: Rate = Field(1.0, description="its weight in the first epoch")


class Separation(Strict):
    """A term of the architecture's loss that drives sigmoids to 0 or 1 (FairDARTS, Chu et al., ECCV 2020)."""

    weight: Rate = Field(10.0, description="its factor, on the mean over all weights")
    norm: Literal["l2", "l1"] = Field(
        "l2", description="distance of a weight from 1/2: squared, as the original does by default, or absolute"
    )


class Sparse(Strict):
    """Of the edges that a node keeps those alone whose operation reaches a weight: 0 to 2 inputs a node (FairDARTS)."""

    threshold: Fraction = Field(0.85, description="the weight; a node without inputs is left out of its cell")


class Gumbel(Strict):
    """One operation of an edge, drawn anew in each forward pass, straight through (GDAS, Dong and Yang, CVPR 2019)."""

    variant: Literal["code", "chosen", "dense"] = Field(
        "code",
        description="gradient of the operations that were not drawn: as if their maps were ones (the authors' code of "
        "NAS-Bench-201), none (their code of the DARTS space), or that of their maps, all of which are then computed (the paper)",
    )
    first: Above = Field(10.0, description="temperature in the first epoch")
    last: Above = Field(0.1, description="temperature in the last epoch, linear between them")


class Taken(Strict):
    """Which epoch's weights are decoded, where it is not the last."""

    by: Literal["valid_loss", "valid_accuracy"] = Field(
        "valid_loss",
        description="the epoch with the lowest loss, or the highest accuracy, on batches of the validation half",
    )
    patience: Positive | None = Field(
        None, description="epochs without a better one after which the search ends, null: it goes on"
    )


PARTS: dict[str, type[Strict]] = {
    "unrolled": Unrolled,
    "flat": Flat,
    "beta": Beta,
    "alignment": Alignment,
    "perturbation": Perturbation,
    "dirichlet": Dirichlet,
    "partial": Partial,
    "oles": Oles,
    "selection": Selection,
    "extra_skip": ExtraSkip,
    "separation": Separation,
    "sparse": Sparse,
    "gumbel": Gumbel,
    "taken": Taken,
}
"""Key of a method -> its group."""
