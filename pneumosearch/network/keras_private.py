"""What the package uses of Keras' optimisers though it is private; `layers` holds the overridden members of layers.

`tests/network/test_keras_private.py` says what a new version of Keras has changed of it.
"""

from typing import Any


def adam_moments(adam: Any, variable: Any) -> tuple[Any, Any]:
    """Return the first and the second moment that Adam keeps of a variable; in public they are in a list of all."""
    index = adam._get_variable_index(variable)
    return adam._momentums[index], adam._velocities[index]


def averaged_variables(optimizer: Any) -> list[Any]:
    """Return the moving averages of the trainable variables, in their order; of an optimiser with `use_ema`.

    Keras' own `SwapEMAWeights` reads this attribute too, and there is no public one.
    """
    return list(optimizer._model_variables_moving_average)
