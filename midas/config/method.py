"""How the mixing weights of a node come about: the keys of a method.

What the paper leaves open and this project decides is marked [D].
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from midas.config.kinds import Positive, Rate, Strict
from midas.config.parts import (
    PARTS,
    Alignment,
    Beta,
    Dirichlet,
    ExtraSkip,
    Flat,
    Gumbel,
    Oles,
    Partial,
    Perturbation,
    Selection,
    Separation,
    Sparse,
    Taken,
    Unrolled,
)


class Method(Strict):
    """How the mixing weights of a node come about; a method is a composition of these choices."""

    weights: Literal["static", "attention", "random", "given"] = Field(
        "attention",
        description="static: architecture parameters shared by all images (DARTS); attention: mosaic attention (MIDAS); random: "
        "no search, a cell drawn uniformly (the baseline that costs nothing); given: no search, the cell of the key genotype",
    )
    genotype: str | None = Field(
        None,
        description="given: a cell that other code found, as text (DARTS's Genotype(...), NAS-Bench-201's string) or as a file "
        "that holds one (text, a log with one of them, or genotype.json)",
    )
    patch_size: Positive | None = Field(
        8,
        description="attention: side of a patch (PS) in pixels of the node's map, null for global average pooling ('no patch')",
    )
    distribution: Literal["edge", "node", "pairs", "sigmoid"] | None = Field(
        None,
        description="softmax over the operations of an edge, over all (edge, operation) of a node, or over admissible pairs of "
        "edges in closed form (topology); static also: a sigmoid of each logit, which begin at 0 (FairDARTS); null: attention "
        "takes pairs where a node keeps two edges, all else takes edge",
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
        False,
        description="attention: that factor is learned, one for each node: `scale` is what it begins with, it does not decay, "
        "and no compiled kernel is used",
    )
    normalise: Literal["none", "layer_norm", "length"] = Field(
        "none",
        description="attention: what queries and keys are divided by before their product: nothing; their standard deviation "
        "over the d dimensions, the mean taken off before; or their length, so that logits lie between -scale and scale, for "
        "which 1/sqrt(d) is too small to commit [D]",
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
    unrolled: Unrolled | None = Field(None, description="second-order architecture step")
    flat: Flat | None = Field(None, description="architecture step towards a flat minimum (A2M)")
    beta: Beta | None = Field(None, description="static: regulariser of the logits (beta-DARTS)")
    alignment: Alignment | None = Field(None, description="regulariser of the network's weights (Lambda-DARTS)")
    perturbation: Perturbation | None = Field(None, description="of the mixing weights in the weights' step (SDARTS)")
    dirichlet: Dirichlet | None = Field(None, description="static: weights are drawn (DrNAS)")
    partial: Partial | None = Field(
        None, description="operations on a part of the channels, weights of edges (PC-DARTS, with warmup_epochs 15)"
    )
    oles: Oles | None = Field(None, description="weights of operations that are frozen on the way (OLES)")
    selection: Selection | None = Field(
        None, description="operations and edges chosen by removal, after the search (DARTS-PT); null: by their weights"
    )
    extra_skip: ExtraSkip | None = Field(
        None, description="a skip connection beside the mixture of every edge (DARTS-)"
    )
    separation: Separation | None = Field(None, description="sigmoid: term that drives weights to 0 or 1 (FairDARTS)")
    sparse: Sparse | None = Field(
        None,
        description="sigmoid: decode by a threshold, as FairDARTS does by default; null: two edges a node, as DARTS",
    )
    gumbel: Gumbel | None = Field(None, description="static: one operation of an edge, drawn (GDAS)")
    taken: Taken | None = Field(
        None, description="the epoch that is decoded, and when a search ends early; null: the last"
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
    decode_pooled: bool | None = Field(
        None,
        description="where a node keeps two edges: keep its two best (edge, operation), both perhaps of one edge, not the best "
        "operation of the two best edges; null: with gumbel alone, as its authors do",
    )


ATTENTION = {
    "learn_scale": False, "normalise": "none", "activation": "none", "projected": "means",
    "weight_decay": None, "decoupled_weight_decay": False,
}  # fmt: skip
"""Options of the attention alone, with the values that leave it as it was first."""

ADDED: dict[str, object] = {**ATTENTION, **dict.fromkeys(PARTS), "decode_pooled": None, "genotype": None}
"""Keys that a method has since runs were published, with the values of before: what is told without them was searched so."""

UNSEARCHED = ("random", "given")
"""Values of `weights` whose cells no search finds."""

DECODING = {"decode_none", "decode_batch", "decode_pooled", "sparse"}
"""Keys of a method that say how a search is read: methods that differ in them alone make the same search."""
