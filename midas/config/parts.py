"""Parts that a method may have beside its source of weights, each with its constants; a part that is null is not there.

Defaults are those of the original code, for NAS-Bench-201 where it differs from the DARTS space.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from midas.config.kinds import Positive, Rate, Strict

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
    "gumbel": Gumbel,
    "taken": Taken,
}
"""Key of a method -> its group."""
