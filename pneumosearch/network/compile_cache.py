"""Networks ready to train: seeded and compiled. Runs whose compiled training step is the same share one."""

import gc
from collections import OrderedDict
from typing import Any, Final

from pneumosearch.config import RunSpec, TrialConfig, untraced_fields
from pneumosearch.network import backend

#: Compiled networks that a process keeps for later runs.
_KEPT: Final = 4

_compiled: OrderedDict[tuple[Any, ...], Any] = OrderedDict()  # least recently used first


def compiled_model(run: RunSpec) -> Any:
    """Return a compiled `keras.Model` with the first weights that `run.seed` gives.

    Learning rate and dropout rates are variables of the step. So a run with the key of an earlier one gets the earlier
    network with new values, and needs no trace; its numbers are those of a new network. The model returned for the
    earlier run is the same object and no longer holds that run's weights.
    """
    key = step_key(run)
    model = _compiled.pop(key, None)
    fresh = _fresh_model(run, clears=model is None)
    if model is None:
        model = fresh
    else:
        _take_over(model, fresh)
    _compiled[key] = model
    if len(_compiled) > _KEPT:
        _compiled.popitem(last=False)
    return model


def step_key(run: RunSpec) -> tuple[Any, ...]:
    """Return the values that are built into the compiled step of `run`: runs with equal keys share one step."""
    return (run.precision, *run.config.model_dump(exclude=set(untraced_fields())).values())


def _fresh_model(run: RunSpec, *, clears: bool) -> Any:
    """Return a new network. To clear Keras' session takes their kernels from the compiled steps of earlier ones."""
    backend.start()
    import keras

    from pneumosearch.network.model import build_model

    if clears:
        keras.backend.clear_session()
    else:
        gc.collect()  # as clearing does: what is left of earlier networks holds memory of the device
    keras.utils.set_random_seed(run.seed)  # after clear_session, which seeds anew
    model = build_model(run.config, precision=run.precision)
    compile_model(model, run.config)
    model.optimizer.build(model.trainable_variables)  # so that a checkpoint finds its variables
    if keras.backend.backend() == "tensorflow":
        model.predict_function = _predict_function(model)
    model.stop_training = False
    return model


def _predict_function(model: Any) -> Any:
    """Return what `predict_on_batch` calls, traced once: Keras' own traces the last, smaller batch anew."""
    import tensorflow as tf

    (pixels,) = model.inputs
    signature = [tf.TensorSpec(pixels.shape, pixels.dtype)]
    predict = tf.function(lambda pixels: model(pixels, training=False), input_signature=signature)
    return lambda batches: predict(batches[0][0])


def compile_model(model: Any, config: TrialConfig) -> None:
    """Compile a `keras.Model` with the optimiser, loss and metric of `config`."""
    import keras

    from pneumosearch.network.accuracy import NearestLabelAccuracy
    from pneumosearch.network.optimizer import build_optimizer

    smoothing = config.label_smoothing
    model.compile(
        optimizer=build_optimizer(config),
        loss=keras.losses.BinaryCrossentropy(label_smoothing=smoothing) if smoothing else "binary_crossentropy",
        metrics=[NearestLabelAccuracy(name="accuracy")],  # a name alone would be traced twice
        jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",  # XLA is slow on CPUs
    )


def _take_over(model: Any, fresh: Any) -> None:
    """Copy into `model` the values of `fresh`: weights, optimiser state, random states and dropout rates."""
    from pneumosearch.network.layers import VariableDropout
    from pneumosearch.network.model import state_variables

    for variable, source in zip(state_variables(model), state_variables(fresh), strict=True):
        variable.assign(source)
    for layer, source in zip(model.layers, fresh.layers, strict=True):
        if isinstance(layer, VariableDropout):
            layer.set_rate(source.rate)
    model.stop_training = False
