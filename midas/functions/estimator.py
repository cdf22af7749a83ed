"""The search for a function as an estimator of scikit-learn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from midas.config.keys import parse
from midas.config.method import Method
from midas.functions.equation import Edge, equation
from midas.functions.fitting import Fit, chosen, decode, refit, search, with_loss
from midas.functions.learning import KINDS, NOT_OFFERED, OUTPUTS, composed, original
from midas.functions.network import FunctionNetwork
from midas.methods.composition import Composition
from midas.spaces import Space
from midas.spaces.functions import DEFAULT, function_space


class FunctionRegressor(RegressorMixin, BaseEstimator):
    """Finds an equation for y: a sum of primitives of the columns of X and of earlier sums, by differentiable search.

    Defaults are those of AutoRA's DARTS (AutoResearch/autora-theorist-darts, regressor.py). Computed in float32 on the CPU.

    Args:
        primitives: names of the operations that are offered, see `midas.spaces.functions.PRIMITIVES`.
        nodes: how many sums there are; y is their sum.
        method: "original" (softmax), "fair" (sigmoid, with FairDARTS's term), or keys of a method of the project, e.g.
            ``{"weights": "attention"}`` for MIDAS, see `midas.functions.learning.composed`.
        output_type: "real"; "sigmoid", "probability" or "probability_sample", which are the sigmoid of the sum.
        decode: operation of an edge: "max", that with the largest weight, or "sample", drawn by the softmax of the logits.
        drift: by how much logits fall in a step: this times arch_lr times the operation's complexity; original and fair alone.
        separation: weight of FairDARTS's term; fair alone.
        epochs: of the search; 0: the architecture stays as it is, to the last bit, and coefficients alone are fitted.
        batch_size: rows in a batch.
        architecture_updates: steps of the architecture in an epoch.
        updates: steps of the coefficients in an epoch.
        refit_updates: steps of the decoded function's coefficients.
        lr: learning rate of the coefficients at the start of an epoch, then half a cosine.
        lr_min: learning rate that the cosine goes to.
        momentum: of the coefficients.
        weight_decay: of the coefficients.
        clip: largest norm of the coefficients' gradient, 0 for no clipping.
        arch_lr: learning rate of the architecture.
        arch_weight_decay: of the architecture.
        warm_start: whether `fit` goes on from the network of the last one, as the original does, where it has the same inputs,
            nodes, primitives and method; False: it begins anew.
        random_state: of what is drawn: coefficients and logits at the start, batches, a sampled decoding.

    Attributes:
        network_: the searched network's parameters by name, arrays.
        operations_: name of the operation of each edge that was decoded.
        function_: the decoded function's parameters by name, arrays.
        edges_: the decoded function, edge by edge.
        n_features_in_: columns of X.
        feature_names_in_: their names, where X has them.
        output_name_: name of y, "y" where it has none.
    """

    network_: dict[str, np.ndarray]
    function_: dict[str, np.ndarray]
    operations_: tuple[str, ...]
    edges_: list[Edge]

    def __init__(
        self,
        primitives: Sequence[str] = DEFAULT,
        nodes: int = 2,
        method: str | Mapping[str, Any] = "original",
        output_type: str = "real",
        decode: Literal["max", "sample"] = "max",
        drift: float = 3e-4,
        separation: float = 1.0,
        epochs: int = 10,
        batch_size: int = 64,
        architecture_updates: int = 1,
        updates: int = 10,
        refit_updates: int = 100,
        lr: float = 0.025,
        lr_min: float = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 3e-4,
        clip: float = 5.0,
        arch_lr: float = 3e-3,
        arch_weight_decay: float = 1e-4,
        warm_start: bool = True,
        random_state: Any = None,
    ):
        self.primitives = primitives
        self.nodes = nodes
        self.method = method
        self.output_type = output_type
        self.decode = decode
        self.drift = drift
        self.separation = separation
        self.epochs = epochs
        self.batch_size = batch_size
        self.architecture_updates = architecture_updates
        self.updates = updates
        self.refit_updates = refit_updates
        self.lr = lr
        self.lr_min = lr_min
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.clip = clip
        self.arch_lr = arch_lr
        self.arch_weight_decay = arch_weight_decay
        self.warm_start = warm_start
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803
        """Search, decode, and fit the coefficients of what was decoded.

        Args:
            X: inputs [n, d], n of at least 2.
            y: outputs [n].

        Raises:
            ValueError: a value is not finite, there are fewer than two rows, or a parameter is not allowed.
            NotImplementedError: an output type that one sum has no use for.
        """
        name = getattr(y, "name", None)
        X, y = validate_data(  # noqa: N806
            self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2, ensure_all_finite=False
        )
        data = _numbers(X, "X"), _numbers(y[:, None], "y")
        how, loss = self._how(), self._loss(y)
        space = function_space(self.primitives, X.shape[1], self.nodes)
        composition = with_loss(self._composition(space), loss)
        begun = (tuple(space.operations), X.shape[1], self.nodes, repr(self.method))
        with _drawn(check_random_state(self.random_state).randint(2**31)):
            network = FunctionNetwork(composition.space, composition.mixing)
            if self.warm_start and getattr(self, "_begun", None) == begun:
                network.load_state_dict(_tensors(self.network_))
            search(network, composition, how, data)
            self.operations_ = decode(network, data, self.decode)
            function = chosen(network, self.operations_)
            refit(function, how, loss, data)
        self.network_, self.function_, self._begun = _arrays(network), _arrays(function), begun
        self._output_type = self.output_type
        self.edges_ = _edges(function, self.operations_)
        self.output_name_ = name if isinstance(name, str) else "y"
        return self

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Values [n] of the decoded function at X [n, d]."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64, ensure_all_finite=False)  # noqa: N806
        primitives, inputs, nodes, _ = self._begun
        space = function_space(primitives, inputs, nodes)
        with _drawn(0), torch.no_grad():
            function = chosen(FunctionNetwork(space, original("original", space, 0.0, 0.0).mixing), self.operations_)
            function.load_state_dict(_tensors(self.function_))
            found = OUTPUTS[self._output_type][1](function(_numbers(X, "X")))
        return found[:, 0].double().numpy()

    def equation(self, form: Literal["text", "latex"] = "text", digits: int = 2) -> str:
        """The function that was found.

        Args:
            form: "text" or "latex".
            digits: decimals of the coefficients.
        """
        check_is_fitted(self)
        if form not in ("text", "latex"):
            raise ValueError(f"form: {form!r} is not allowed; text, latex")
        names = getattr(self, "feature_names_in_", [f"x{i + 1}" for i in range(self.n_features_in_)])
        names = ["x"] if len(names) == 1 and names[0] == "x1" else list(names)
        sigmoid = self._output_type != "real"
        return equation(self.edges_, names, self.output_name_, form == "latex", sigmoid, digits)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True  # few primitives are no general approximator, nor are ten epochs many
        tags.non_deterministic = self.random_state is None
        return tags

    def _how(self) -> Fit:
        """The settings.

        Raises:
            ValueError: one is not allowed.
        """
        keys = {name: getattr(self, name) for name in Fit._fields}
        least = {"batch_size": 2, "epochs": 0, "architecture_updates": 0, "updates": 0, "refit_updates": 0}
        for name, value in {**keys, "drift": self.drift, "separation": self.separation}.items():
            whole = name in least
            if isinstance(value, bool) or not isinstance(value, int | np.integer if whole else int | float | np.number):
                raise ValueError(f"{name}: {value!r} is not allowed; {'an integer' if whole else 'a number'}")
            if not np.isfinite(value) or value < least.get(name, 0):
                raise ValueError(f"{name}: {value!r} is not allowed; at least {least.get(name, 0)}")
        if self.decode not in ("max", "sample"):
            raise ValueError(f"decode: {self.decode!r} is not allowed; max, sample")
        return Fit(**keys)

    def _loss(self, y: np.ndarray) -> Any:
        kind = self.output_type
        if kind in NOT_OFFERED:
            raise NotImplementedError(f"output_type: {kind!r} is not offered; {NOT_OFFERED[kind]}")
        if kind not in OUTPUTS:
            raise ValueError(f"output_type: {kind!r} does not exist; allowed: {', '.join(OUTPUTS)}")
        if kind.startswith("probability") and (y.min() < 0 or y.max() > 1):
            raise ValueError(f"y: values from {y.min():g} to {y.max():g} are not allowed with {kind!r}; from 0 to 1")
        return OUTPUTS[kind][0]

    def _composition(self, space: Space) -> Composition:
        if isinstance(self.method, Mapping):
            return composed(parse(dict(self.method), Method), space, max(1, self.epochs))
        if self.method not in KINDS:
            raise ValueError(
                f"method: {self.method!r} does not exist; allowed: {', '.join(KINDS)}, or keys of a method"
            )
        return original(self.method, space, self.arch_lr, self.drift, self.separation)


def _numbers(values: np.ndarray, name: str) -> torch.Tensor:
    """As float32.

    Raises:
        ValueError: one is not finite.
    """
    with np.errstate(over="ignore"):  # said below
        found = torch.from_numpy(values.astype(np.float32))
    bad = (~found.isfinite()).nonzero()
    if len(bad):
        row, column = bad[0].tolist()
        value = "NaN" if found[row, column].isnan() else "infinity (inf) in float32"
        raise ValueError(f"{name}: row {row}, column {column} (from 0) is {value}; finite numbers are needed")
    return found


def _edges(function: FunctionNetwork, operations: tuple[str, ...]) -> list[Edge]:
    found = []
    for edge, ((source, target), name) in enumerate(zip(function.space.cells["cell"].edges, operations, strict=True)):
        values = {one: float(value.detach()) for one, value in function.operation(edge, name).items()}
        found.append(Edge(source, target, name, values))
    return found


def _arrays(network: FunctionNetwork) -> dict[str, np.ndarray]:
    return {name: tensor.detach().numpy().copy() for name, tensor in network.state_dict().items()}


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


@contextmanager
def _drawn(seed: int) -> Iterator[None]:
    """Within, torch draws by a seed; what it draws afterwards is as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
