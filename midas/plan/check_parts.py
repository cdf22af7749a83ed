"""Whether the parts of a method go together, and with the rest of it; part of `midas.plan.check_experiment`."""

from __future__ import annotations

from collections.abc import Iterator

from midas.config.keys import Experiment
from midas.config.method import UNSEARCHED, Method
from midas.config.parts import PARTS, Dirichlet
from midas.spaces import Space

DIFFERENCES = ("unrolled", "flat", "alignment")
"""Parts that take a finite difference of gradients."""
DRAWS = ", whose draws differ between the two ends of its difference"
ALONE = ", which computes one operation of an edge alone"
GOES_ON = ", which goes on on an edge whose operations are removed"
APART = (
    ("flat", "unrolled", "; a method has one kind of architecture step"),
    ("perturbation", "alignment", ", whose finite difference its draws would change"),
    ("extra_skip", "partial", ", where a part of the channels goes by already"),
    ("oles", "unrolled", ", whose step of the weights knows of nothing that is frozen"),
    ("taken", "selection", ", which ends with the last epoch"),
    *(("selection", other, GOES_ON) for other in ("partial", "extra_skip")),
    *((name, other, DRAWS) for other in ("gumbel", "dirichlet") for name in DIFFERENCES),
    *((name, "gumbel", ALONE) for name in ("perturbation", "partial", "extra_skip", "selection", "oles", "dirichlet")),
)
"""Parts that exclude each other: the one that is refused, the other, and why."""
BESIDE = ("extra_skip", "partial", "selection")
"""Parts that exclude an operation beside the mixture of every edge (`Space.beside`)."""


def part_problems(space: Space, experiment: Experiment, method: Method, method_key: str, key: str) -> Iterator[str]:
    """Parts of a method that nothing is left to do for, or that exclude each other."""
    parts = [name for name in PARTS if getattr(method, name) is not None]
    if method.weights in UNSEARCHED:
        parts += ["decode_pooled"] if method.decode_pooled else []
        yield from (
            f"{method_key}.{name}: not allowed with weights {method.weights!r}, which is not searched" for name in parts
        )
        return
    for name, other, why in APART:
        if {name, other} <= set(parts):
            yield f"{method_key}.{name}: not allowed beside {other}{why}"
    for name in (part for part in DIFFERENCES if part in parts):
        if experiment.search.precision == "bfloat16":
            yield f"{method_key}.{name}: not allowed with {key}.search.precision 'bfloat16'; its finite difference needs float32"
        if "noise" in space.operations:
            yield f"{method_key}.{name}: not allowed in {space.name}, whose noise differs between the two ends of its difference"
    for name in (part for part in BESIDE if part in parts and space.beside):
        yield f"{method_key}.{name}: not allowed in {space.name}, where {space.beside} stands beside the mixture of every edge"
    if method.alignment and not any(spec.stride == 1 for spec in space.cells.values()):
        yield f"{method_key}.alignment: not allowed in {space.name}, which has no cells of one kind to align"
    softmax = method.distribution or ("pairs" if method.weights == "attention" and space.kept_edges == 2 else "edge")
    yield from _source_problems(method, method_key, parts)
    for name in (part for part in ("perturbation", "selection") if part in parts and softmax != "edge"):
        yield f"{method_key}.{name}: not allowed with the softmax over {softmax}; it makes an edge's weights sum to 1: edge"
    yield from _sigmoid_problems(space, method, method_key)
    yield from _draw_problems(space, method, softmax, method_key)
    if method.partial:
        yield from _partial_problems(experiment, method, softmax, method_key, key)
    for name in ("unrolled", "flat", "beta", "oles", "dirichlet", "warmup_epochs"):
        if method.selection and method.selection.fixed and getattr(method, name):
            yield f"{method_key}.{name}: not allowed beside selection.fixed, with which the architecture takes no step"
    if method.taken and method.warmup_epochs:
        yield f"{method_key}.taken: not allowed with warmup_epochs, in which the architecture stays as it was drawn"
    if method.taken and method.taken.patience and method.taken.patience >= experiment.search.epochs:
        yield (
            f"{method_key}.taken.patience: {method.taken.patience} is not allowed; fewer than the epochs of {key}.search "
            f"({experiment.search.epochs})"
        )
    if method.dirichlet:
        yield from _dirichlet_problems(space, experiment, method, method.dirichlet, method_key, key)


def _source_problems(method: Method, method_key: str, parts: list[str]) -> Iterator[str]:
    """What does not go with where the weights come from."""
    if method.beta and method.weights != "static":
        yield f"{method_key}.beta: not allowed with weights {method.weights!r}; it is a term of static logits"
    learns = method.projections == "learned" or method.learn_scale or method.none_logit == "learned"
    learns = learns or (method.partial is not None and method.partial.edges)
    if method.weights == "attention" and not learns:
        for name in {"unrolled", "flat"} & set(parts):
            yield f"{method_key}.{name}: not allowed with frozen projections, which take no step"
    if method.weights == "attention" and method.mixing == "patch":
        for name in {"alignment", "perturbation", "selection"} & set(parts):
            yield f"{method_key}.{name}: not allowed with mixing 'patch'; it changes the weights of whole images"


def _dirichlet_problems(
    space: Space, experiment: Experiment, method: Method, part: Dirichlet, method_key: str, key: str
) -> Iterator[str]:
    """Draws of weights that are not static, or that a finite difference would take for a change; stages that do nothing."""
    if method.weights != "static":
        yield f"{method_key}.dirichlet: not allowed with weights {method.weights!r}; it draws static weights"
        return
    if method.distribution not in (None, "edge"):
        yield f"{method_key}.dirichlet: not allowed with the softmax over {method.distribution}; it draws those of an edge: edge"
    if part.keep and method.selection:
        yield f"{method_key}.selection: not allowed beside dirichlet.keep; both decide which operations take part"
    if method.taken and (part.keep or part.wait):
        name = "keep" if part.keep else "wait"
        yield f"{method_key}.taken: not allowed with dirichlet.{name}; the last epoch has been through all stages"
    operations = len((space.with_none() if method.offer_none else space).operations)
    for number, before in zip(part.keep, [operations, *part.keep], strict=False):
        if number >= before:
            yield f"{method_key}.dirichlet.keep: {number} is not allowed; fewer than the {before} operations of the stage before"
    stages, epochs = len(part.keep) + 1, experiment.search.epochs
    if stages > epochs:
        yield f"{method_key}.dirichlet.keep: {stages} stages are not allowed in the {epochs} epochs of {key}.search"
    elif part.wait >= epochs // stages:
        yield (
            f"{method_key}.dirichlet.wait: {part.wait} is not allowed; fewer than the {epochs // stages} epochs of a stage of "
            f"{key}.search"
        )
    elif part.keep and method.warmup_epochs >= epochs // stages:
        yield (
            f"{method_key}.warmup_epochs: {method.warmup_epochs} is not allowed with dirichlet.keep; fewer than the "
            f"{epochs // stages} epochs of its first stage ({key}.search)"
        )


def _partial_problems(experiment: Experiment, method: Method, softmax: str, method_key: str, key: str) -> Iterator[str]:
    """Channels that can't be parted alike, and weights that say nothing of what goes by."""
    assert method.partial is not None
    parts, channels = method.partial.channels, experiment.search.channels
    if channels % parts:
        allowed = ", ".join(str(k) for k in range(1, channels + 1) if channels % k == 0)
        yield (
            f"{method_key}.partial.channels: {parts} does not divide the {channels} channels of {key}.search; "
            f"allowed: {allowed}"
        )
    if softmax != "edge":
        yield (
            f"{method_key}.partial: not allowed with the softmax over {softmax}; what goes by weighs as much as an edge whose "
            "weights sum to 1: edge"
        )


def _sigmoid_problems(space: Space, method: Method, method_key: str) -> Iterator[str]:
    """Sigmoids where there are none, or what is theirs alone without them."""
    if method.distribution == "sigmoid" and method.weights != "static":
        yield f"{method_key}.distribution: 'sigmoid' is not allowed with weights {method.weights!r}; allowed: edge, node, pairs"
    for name in ("separation", "sparse"):
        if getattr(method, name) is not None and method.distribution != "sigmoid":
            yield f"{method_key}.{name}: not allowed with a softmax, whose weights compete; it needs distribution 'sigmoid'"
    if method.sparse is not None and space.kept_edges is None:
        yield f"{method_key}.sparse: not allowed in {space.name}, whose nodes keep all edges"


def _draw_problems(space: Space, method: Method, softmax: str, method_key: str) -> Iterator[str]:
    """What does not go with one operation of an edge (gumbel), or with a decoding that pools edges."""
    if method.gumbel:
        if method.weights != "static":
            yield f"{method_key}.gumbel: not allowed with weights {method.weights!r}; it draws from static logits"
        elif softmax != "edge":
            yield f"{method_key}.gumbel: not allowed with the softmax over {softmax}; it draws one operation of each edge: edge"
    if method.decode_pooled and method.sparse:
        yield f"{method_key}.sparse: not allowed beside decode_pooled, which knows no threshold"
    if method.decode_pooled and space.kept_edges is None:
        yield f"{method_key}.decode_pooled: true is not allowed in {space.name}, which keeps all edges; allowed: false, null"
    elif method.decode_pooled and softmax == "pairs":
        yield f"{method_key}.decode_pooled: true is not allowed with the softmax over pairs, which ranks pairs of edges"
