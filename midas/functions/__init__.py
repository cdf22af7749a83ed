"""What function do data follow? The search over the space of functions, as an estimator of scikit-learn and as a step."""

from midas.functions.estimator import FunctionRegressor

__all__ = ["FunctionRegressor"]
