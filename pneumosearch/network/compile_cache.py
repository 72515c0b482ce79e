"""A network ready to train: seeded and compiled, in a step that was traced before where one of its shape was."""

from collections import OrderedDict
from typing import Any, Final

from pneumosearch.config import RunSpec, TrialConfig
from pneumosearch.network import backend

#: Networks that are kept in a process for later runs of the same shape.
_KEPT: Final = 4

#: Fields of a configuration that are variables of the step, or do their work outside of it.
_OUTSIDE: Final = {
    *("dropout_conv", "dropout_1", "dropout_2", "dropout_3"),
    *("zoom", "vertical_flip", "horizontal_flip", "shift", "rotation", "brightness", "contrast", "equalization"),
    *("learning_rate", "lr_schedule", "warmup_epochs", "lr_reduce_factor", "lr_reduce_patience", "lr_reduce_mode"),
    *("epochs", "early_stopping", "class_weight", "keep"),
    "batch_norm_statistics",
}

_Shape = tuple[Any, ...]
_compiled: OrderedDict[_Shape, Any] = OrderedDict()  # the one used last at the end


def compiled_model(run: RunSpec) -> Any:
    """Return a compiled `keras.Model` with the first weights that `run.seed` gives.

    Learning rate and dropout rates are variables of the step, so a run whose sizes equal those of an earlier one gets
    the earlier network with new values, and needs no trace; its numbers are those of a new network. The model that was
    returned for that earlier run is the same object, and no longer holds its weights.
    """
    fresh = _fresh_model(run)
    shape = _shape(run)
    model = _compiled.pop(shape, None)
    if model is None:
        model = fresh
    else:
        _take_over(model, fresh)
    _compiled[shape] = model
    if len(_compiled) > _KEPT:
        _compiled.popitem(last=False)
    return model


def forget_networks() -> None:
    """Keep no network for later runs, so that the next run of any shape gets a new one."""
    _compiled.clear()


def _shape(run: RunSpec) -> _Shape:
    """All of a run that is built into its compiled step."""
    return (run.precision, *run.config.model_dump(exclude=_OUTSIDE).values())


def _fresh_model(run: RunSpec) -> Any:
    backend.start()
    import keras

    from pneumosearch.network.model import build_model

    keras.backend.clear_session()
    keras.utils.set_random_seed(run.seed)  # after clear_session, which seeds anew
    model = build_model(run.config, precision=run.precision)
    compile_model(model, run.config)
    model.optimizer.build(model.trainable_variables)  # so that a checkpoint finds its variables
    model.stop_training = False
    return model


def compile_model(model: Any, config: TrialConfig) -> None:
    """Give a `keras.Model` the optimiser, loss and metric that `config` trains with."""
    import keras

    from pneumosearch.network.optimizer import build_optimizer

    smoothing = config.label_smoothing
    model.compile(
        optimizer=build_optimizer(config),
        loss=keras.losses.BinaryCrossentropy(label_smoothing=smoothing) if smoothing else "binary_crossentropy",
        metrics=[keras.metrics.BinaryAccuracy(name="accuracy")],  # a name alone would be traced twice
        jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",  # XLA is slow on CPUs
    )


def _take_over(model: Any, fresh: Any) -> None:
    """Give `model` the values of `fresh`: weights, optimiser, random states and dropout rates."""
    from pneumosearch.network.layers import VariableDropout
    from pneumosearch.network.model import state_variables

    for variable, source in zip(state_variables(model), state_variables(fresh), strict=True):
        variable.assign(source)
    for layer, source in zip(model.layers, fresh.layers, strict=True):
        if isinstance(layer, VariableDropout):
            layer.set_rate(source.rate)
    model.stop_training = False
