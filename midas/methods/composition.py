"""What a method is made of: the one place where a configuration's keys become parts of a search.

A method is a composition: a source of mixing weights (`static`, `attention`) with a distribution (`distributions`), a way to mix,
how architecture and weights learn (`learning`, with the field's methods in `field`), what happens at an epoch's end and which
epoch's cell is taken (`epochs`). The step decode, which has no torch, reads the two keys that it needs itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from midas.config.method import Method
from midas.methods.attention import AttentionMixing, MapAttention
from midas.methods.decoding import pools
from midas.methods.distributions import DISTRIBUTIONS, DRAWN
from midas.methods.epochs import Choice, Hook
from midas.methods.field.alignment import aligned
from midas.methods.field.beta import beta
from midas.methods.field.flat import flat
from midas.methods.field.gumbel import GumbelMixing, filled
from midas.methods.field.perturbation import attacked_change, random_change
from midas.methods.field.second_order import second_order
from midas.methods.learning import Gradient, Learning, first_order, on_train, perturbed
from midas.methods.passes import Term
from midas.methods.static import StaticMixing
from midas.spaces import CellSpec, Space
from midas.supernet import Supernet
from midas.supernet.weights import Mixing, mix_images, mix_patches


@dataclass(frozen=True)
class Composition:
    """A method on a space. What has a default here is first-order DARTS in all methods of today.

    Attributes:
        space: the space, with "none" among its candidates where the method offers it.
        mixing: where weights come from, and how maps are mixed with them.
        learning: how architecture and weights learn, and terms of the architecture's loss.
        hooks: make what is called at the end of each epoch, in this order.
        choice: which epoch's weights are decoded, and when a search ends early.
        warmup_epochs: epochs at the start in which the architecture stays as it was drawn.
        decode_none: whether "none" may be decoded; None: as the space says.
        decode_pooled: whether a node keeps its best (edge, operation), see `decode_weights`.
        decode_batch: images in a batch of the dump that is decoded; None: as in search.
    """

    space: Space
    mixing: Mixing
    learning: Learning = field(default_factory=Learning)
    hooks: Sequence[Callable[[], Hook]] = ()
    choice: Choice = field(default_factory=Choice)
    warmup_epochs: int = 0
    decode_none: bool | None = None
    decode_pooled: bool = False
    decode_batch: int | None = None

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
    taken = method.taken
    return Composition(
        space,
        SOURCES[method.weights](method, space, epochs),
        Learning(_architecture_step(method), _weight_step(method, epochs), _terms(method)),
        choice=Choice(taken.by, taken.by == "valid_accuracy", taken.patience) if taken else Choice(),
        warmup_epochs=method.warmup_epochs,
        decode_none=method.decode_none,
        decode_pooled=pools(method, space),
        decode_batch=method.decode_batch,
    )


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


def _terms(method: Method) -> tuple[Term, ...]:
    """Of the architecture's loss beside the cross-entropy."""
    return (beta(method.beta.per_epoch, method.beta.joint),) if method.beta else ()


def supernet_of(space: Space, method: Method, channels: int, cells: int, classes: int, **how: bool) -> Supernet:
    """The supernet of a method; sizes, and `how` it is computed (merged, fast, triton), as `Supernet` says."""
    return compose(method, space).supernet(channels, cells, classes, **how)


def distribution_of(method: Method, space: Space) -> str:
    """The softmax set of a method on a space, its default resolved."""
    if method.distribution is not None:
        return method.distribution
    return "pairs" if method.weights == "attention" and space.kept_edges == 2 else "edge"


def _static(method: Method, space: Space, epochs: int) -> Mixing:
    name, how = distribution_of(method, space), method.gumbel

    def source(spec: CellSpec, channels: int, fast: bool) -> StaticMixing:
        if how:
            return GumbelMixing(spec, space, how.variant, how.first, how.last, epochs)
        return StaticMixing(spec, space, DISTRIBUTIONS[name], draws=name in DRAWN)

    return Mixing(
        source,
        shared=True,
        mix=mix_images,
        patch_size=method.patch_size,
    )


def _attention(method: Method, space: Space, epochs: int) -> Mixing:
    name = distribution_of(method, space)
    source = MapAttention if method.projected == "maps" else AttentionMixing
    return Mixing(
        lambda spec, channels, fast: source(spec, space, method, name, channels, fast),
        shared=False,
        mix=mix_patches if method.mixing == "patch" else mix_images,
        patch_size=method.patch_size,
    )


SOURCES: dict[str, Callable[[Method, Space, int], Mixing]] = {"static": _static, "attention": _attention}
"""Key `weights` of a method -> where its mixing weights come from."""
