"""What a method is made of: the one place where a configuration's keys become parts of a search.

A method is a composition: a source of mixing weights (`static`, `attention`) with a distribution (`distributions`), a way to mix,
how architecture and weights learn (`learning`, with the field's methods in `field`), what happens at an epoch's end and which
epoch's cell is taken (`epochs`). The step decode, which has no torch, reads the two keys that it needs itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from midas.config.method import Method
from midas.methods.attention import AttentionMixing, MapAttention
from midas.methods.decoding import pools, threshold_of
from midas.methods.distributions import DISTRIBUTIONS, DRAWN, ZERO
from midas.methods.epochs import Choice, Hook
from midas.methods.field.beta import beta
from midas.methods.field.dirichlet import DECODED, Pruning, edge_dirichlet, kl, waits
from midas.methods.field.extra_skip import skip_weight
from midas.methods.field.fair import separation
from midas.methods.field.gumbel import GumbelMixing, filled
from midas.methods.field.partial import with_edges
from midas.methods.field.selection import Selection, schedule
from midas.methods.field.steps.alignment import aligned
from midas.methods.field.steps.flat import flat
from midas.methods.field.steps.oles import Oles
from midas.methods.field.steps.perturbation import attacked_change, random_change
from midas.methods.field.steps.second_order import second_order
from midas.methods.learning import Gradient, Learning, first_order, on_train, perturbed
from midas.methods.passes import Term
from midas.methods.static import StaticMixing
from midas.spaces import CellSpec, Space
from midas.supernet import Supernet
from midas.supernet.weights import MakeSource, Mix, Mixing, mix_images, mix_patches


@dataclass(frozen=True)
class Composition:
    """A method on a space. What is left at its default here is first-order DARTS.

    Attributes:
        space: the space, with "none" among its candidates where the method offers it.
        mixing: where weights come from, and how maps are mixed with them.
        learning: how architecture and weights learn, and terms of the architecture's loss.
        hooks: make what is called at the end of each epoch, in this order.
        choice: which epoch's weights are decoded, and when a search ends early.
        more_epochs: that follow those of the search, at a constant learning rate, begun without momentum.
        warmup_epochs: epochs at the start in which the architecture stays as it was drawn.
        waits: further epochs in which it stays as it is.
        decode_none: whether "none" may be decoded; None: as the space says.
        threshold: weight that a kept operation has at least, see `decode_weights`.
        decode_pooled: whether a node keeps its best (edge, operation), see `decode_weights`.
        decode_batch: images in a batch of the dump that is decoded; None: as in search.
    """

    space: Space
    mixing: Mixing
    learning: Learning = field(default_factory=Learning)
    hooks: Sequence[Callable[[], Hook]] = ()
    choice: Choice = field(default_factory=Choice)
    more_epochs: int = 0
    warmup_epochs: int = 0
    waits: tuple[range, ...] = ()
    decode_none: bool | None = None
    threshold: float | None = None
    decode_pooled: bool = False
    decode_batch: int | None = None

    def learns(self, epoch: int) -> bool:
        """Whether the architecture learns in an epoch, from 0."""
        return epoch >= self.warmup_epochs and not any(epoch in wait for wait in self.waits)

    def supernet(self, channels: int, cells: int, classes: int, **how: bool) -> Supernet:
        """Its supernet, see `Supernet`."""
        return Supernet(self.space, self.mixing, channels, cells, classes, **how)


def compose(method: Method, space: Space, epochs: int = 1) -> Composition:
    """The composition of a method's keys, see `Method` for what each means.

    Args:
        method: the keys.
        space: as the configuration names it.
        epochs: of the search, which schedules depend on.
    """
    space = space.with_none() if method.offer_none else space
    taken, drawn, select, more = method.taken, method.dirichlet, method.selection, more_epochs(method, space)
    learning = Learning(_architecture_step(method), _weight_step(method, epochs), _terms(method))
    learning, hooks = _watched(method, learning._replace(late_rate=select.rate) if select else learning)
    pruning = (lambda: Pruning(drawn.keep, epochs),) if drawn and drawn.keep else ()
    return Composition(
        space,
        _mixing(method, space, epochs),
        learning,
        (*pruning, *hooks, *_selecting(method, space, epochs)),
        choice=Choice(taken.by, taken.by == "valid_accuracy", taken.patience) if taken else Choice(),
        more_epochs=more,
        warmup_epochs=epochs + more if select and select.fixed else method.warmup_epochs,
        waits=waits(epochs, len(drawn.keep) + 1, drawn.wait) if drawn else (),
        decode_none=method.decode_none,
        threshold=threshold_of(method),
        decode_pooled=pools(method, space),
        decode_batch=method.decode_batch,
    )


def _mixing(method: Method, space: Space, epochs: int) -> Mixing:
    """Where weights come from, and whether there is more on an edge than they weigh."""
    found, part = SOURCES[method.weights](method, space, epochs), method.extra_skip
    return found._replace(skip=skip_weight(part.decay, part.first, epochs)) if part else found


def _architecture_step(method: Method) -> Gradient:
    if method.unrolled:
        return second_order(method.unrolled.radius)
    if method.flat:
        return flat(method.flat.rho, method.flat.epsilon)
    return first_order


def _weight_step(method: Method, epochs: int) -> Gradient:
    """On the training batch, with other mixing weights if so asked, and aligned on top."""
    found: Gradient = on_train
    part = method.perturbation
    if part and part.kind == "random":
        found = perturbed(random_change(part.first, part.last, epochs))
    elif part:
        found = perturbed(attacked_change(part.first, part.last, epochs, part.steps))
    if method.alignment:
        how = method.alignment
        found = aligned(how.weight, how.epsilon, epochs, how.signs, found)
    return filled(found) if method.gumbel else found


def _watched(method: Method, learning: Learning) -> tuple[Learning, Sequence[Callable[[], Hook]]]:
    """How a method learns, with what watches it, and hooks that share a state with that."""
    if method.oles is None:
        return learning, ()
    oles = Oles(method.oles.threshold, method.oles.window, method.oles.compare == "accumulated")
    return oles.watches(learning), (lambda: oles,)


def more_epochs(method: Method, space: Space) -> int:
    """Epochs that follow those of a search."""
    return schedule(space, method.selection.interval)[-1] + 1 if method.selection else 0


def _selecting(method: Method, space: Space, epochs: int) -> Sequence[Callable[[], Hook]]:
    how = method.selection
    return (lambda: Selection(space, epochs, how.interval, how.by, method.decode_none),) if how else ()


def _terms(method: Method) -> tuple[Term, ...]:
    """Of the architecture's loss beside the cross-entropy."""
    terms = []
    if method.beta:
        terms.append(beta(method.beta.per_epoch, method.beta.joint))
    if method.dirichlet and method.dirichlet.regulariser == "kl":
        terms.append(kl(method.dirichlet.factor))
    if method.separation:
        terms.append(separation(method.separation.weight, method.separation.norm))
    return tuple(terms)


def supernet_of(space: Space, method: Method, channels: int, cells: int, classes: int, **how: bool) -> Supernet:
    """The supernet of a method; sizes, and `how` it is computed (merged, fast, triton), as `Supernet` says."""
    return compose(method, space).supernet(channels, cells, classes, **how)


def distribution_of(method: Method, space: Space) -> str:
    """The softmax set of a method on a space, its default resolved."""
    if method.distribution is not None:
        return method.distribution
    return "pairs" if method.weights == "attention" and space.kept_edges == 2 else "edge"


def _static(method: Method, space: Space, epochs: int) -> Mixing:
    name, part, one = distribution_of(method, space), method.dirichlet, method.gumbel
    how: dict[str, Any] = {"distribution": DISTRIBUTIONS[name], "draws": name in DRAWN}
    how |= {"spread": 0.0} if name in ZERO else {}
    if part:
        how = {"distribution": edge_dirichlet, "draws": True, "settles": DECODED[part.variant]}
        how |= {"decay": 0.0} if part.regulariser == "kl" else {}

    def source(spec: CellSpec, channels: int, fast: bool) -> StaticMixing:
        if one:
            return GumbelMixing(spec, space, one.variant, one.first, one.last, epochs)
        return StaticMixing(spec, space, **how)

    return _weighed(
        method,
        source,
        shared=True,
        mix=mix_images,
    )


def _attention(method: Method, space: Space, epochs: int) -> Mixing:
    name = distribution_of(method, space)
    source = MapAttention if method.projected == "maps" else AttentionMixing
    return _weighed(
        method,
        lambda spec, channels, fast: source(spec, space, method, name, channels, fast),
        shared=False,
        mix=mix_patches if method.mixing == "patch" else mix_images,
    )


def _weighed(method: Method, source: MakeSource, shared: bool, mix: Mix) -> Mixing:
    """With weights of edges and parts of the channels, if so asked."""
    part = method.partial
    if part and part.edges:
        source = with_edges(source)
    return Mixing(source, shared, mix, method.patch_size, part.channels if part else 1)


SOURCES: dict[str, Callable[[Method, Space, int], Mixing]] = {"static": _static, "attention": _attention}
"""Key `weights` of a method -> where its mixing weights come from."""
