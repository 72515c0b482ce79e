"""The running accuracy of training, also where labels are mixed."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="pneumosearch")
class NearestLabelAccuracy(keras.metrics.BinaryAccuracy):
    """Keras' binary accuracy, with labels between 0 and 1 taken for the nearer of the two; 1/2 for 0."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count a batch: labels and probabilities, (n, 1) each."""
        super().update_state(ops.cast(ops.greater(y_true, 0.5), "float32"), y_pred, sample_weight)
