"""Start of Keras: sets the environment of the process, then imports the backend."""

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final, Literal

from pneumosearch._utils.hardware import GROWING, quota_variables, threads_a_training, visible_devices
from pneumosearch.config import Precision, PrecisionChoice
from pneumosearch.errors import ConfigError

_ENVIRONMENT: Final = {
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_MODULE_LOADING": "LAZY",
}

_JAX_FLAG: Final = "--xla_gpu_deterministic_ops"

#: Kept with each trial; raised whenever a change of the package changes the last digits of a training.
#: 3: oneDNN's kernels with AVX2 alone too. 2: the fused kernel normalises in evaluation too. Before: no number.
_ARITHMETIC: Final = "3"

#: Features of a processor that change how fast it trains, and the last digits.
_ABILITIES: Final = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


@cache
def start() -> None:
    """Import Keras and its backend once. Environment variables that the user has set take precedence."""
    import cv2

    for name, value in {**_ENVIRONMENT, **GROWING, **quota_variables(), **_kernel_variables()}.items():
        os.environ.setdefault(name, value)
    # TensorFlow warns of each new trace, and a study traces many networks.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    cv2.setNumThreads(1)  # leave the cores to the threads of the network
    with _quiet_stderr():
        import keras

        keras.random.uniform((1,))  # initialises the devices now, because that writes to standard error


def _kernel_variables() -> dict[str, str]:
    """Return the variable that has TensorFlow compute with oneDNN on processors where it would not by itself.

    By itself TensorFlow does so from AVX512-VNNI on. With AVX2 alone, training takes less than half of the time with it
    (results/LOG.md).
    """
    return {"TF_ENABLE_ONEDNN_OPTS": "1"} if "avx2" in processor()[1] else {}


@cache
def training_device() -> Literal["cpu", "gpu"]:
    """Return the kind of device that the Keras backend trains on."""
    start()
    import keras

    place = str(keras.random.uniform((1,)).device).lower()  # "/job:localhost/.../device:GPU:0", "cuda:0", "TFRT_CPU_0"
    return "gpu" if "gpu" in place or "cuda" in place else "cpu"


def _name() -> str:
    """Return the name of Keras' backend. The environment says what it should be, and may change after the import."""
    start()
    import keras

    return str(keras.backend.backend())


def make_deterministic() -> None:
    """Let the backend run only operations that give the same digits each time, for the rest of this process.

    Raises:
        ConfigError: JAX on a GPU was started without the flag that it reads then.
    """
    if _name() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    elif _name() == "torch":
        import torch

        torch.use_deterministic_algorithms(True)
    elif training_device() == "gpu" and _JAX_FLAG not in os.environ.get("XLA_FLAGS", ""):
        raise ConfigError(f"deterministic: JAX on a GPU wants XLA_FLAGS={_JAX_FLAG}=true in the environment")


def device_in_words() -> str:
    """Return the device that trains, for the user."""
    if training_device() == "gpu":
        return "the GPU" if len(visible_devices()) < 2 else f"a GPU ({', '.join(visible_devices())} are visible)"
    threads = threads_a_training()
    return f"the processor, {threads} thread{'s' * (threads > 1)}"


def idle_gpu_warning() -> str | None:
    """Return a warning if accelerators are visible that the backend does not use, otherwise None."""
    devices = visible_devices()
    if not devices or training_device() == "gpu":
        return None
    seen = "a GPU is" if len(devices) == 1 else f"{len(devices)} GPUs are"
    backend = _name()
    remedy = "pip install 'pneumosearch[gpu]'" if backend == "tensorflow" else f"install {backend} with CUDA"
    return f"{seen} visible, but {backend} trains on the processor; {remedy}, or set CUDA_VISIBLE_DEVICES="


def resolved_precision(choice: PrecisionChoice) -> Precision:
    """Return `choice`, or for "auto" the precision that is fastest on the device that trains.

    A bfloat16 network reaches the same accuracy as a float32 one. It is faster on processors that multiply bfloat16 at
    a higher rate: Intel with AMX, and AMD with AVX512-BF16. It is slower on Intel with AVX512-BF16 but without AMX.
    results/LOG.md has the measurements.
    """
    if choice != "auto":
        return choice
    if visible_devices() and training_device() == "gpu":  # without a GPU, Keras need not be imported
        return "float32"  # bfloat16 has not been measured on a GPU
    vendor, flags = processor()
    native = "amx_bf16" in flags or (vendor == "AuthenticAMD" and "avx512_bf16" in flags)
    return "bfloat16" if native else "float32"


def processor() -> tuple[str, frozenset[str]]:
    """Return the vendor and the feature flags of the processor; both empty on systems without /proc/cpuinfo."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "", frozenset()
    # The last core wins; all cores are alike.
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return fields.get("vendor_id", ""), frozenset(fields.get("flags", "").split())


def abilities() -> str:
    """Return the features of the processor that training depends on, separated by commas, in words if it has none."""
    return ", ".join(name for name in _ABILITIES if name in processor()[1]) or "no vector abilities known"


@cache
def versions() -> dict[str, str]:
    """Return what the exact numbers of a training depend on: libraries, arithmetic, processor and number of threads."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    start()
    found = {"python": platform.python_version(), "machine": platform.machine(), "threads": str(threads_a_training())}
    found["arithmetic"] = _ARITHMETIC
    found["instructions"] = abilities()
    for package in ("pneumosearch", "numpy", "keras", "optuna", "opencv-python-headless", _name()):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a package"
    return found


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Hide what native code writes to standard error; show it if the start fails."""
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield
        except BaseException:
            sink.seek(0)
            os.write(saved, sink.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
