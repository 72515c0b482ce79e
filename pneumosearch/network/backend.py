"""Starting Keras: the one place that prepares the process before a backend is imported."""

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

_ENVIRONMENT: Final = {
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_MODULE_LOADING": "LAZY",
}


@cache
def start() -> None:
    """Import Keras and its backend, once, with the environment set; values that the user has set win."""
    import cv2

    for name, value in {**_ENVIRONMENT, **GROWING, **quota_variables()}.items():
        os.environ.setdefault(name, value)
    # It warns of every network's own trace, of which a study has many.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    cv2.setNumThreads(1)  # the network's own threads have the cores
    with _quiet_stderr():
        import keras

        keras.random.uniform((1,))  # starts the backend's devices, which would write to the terminal later


@cache
def training_device() -> Literal["cpu", "gpu"]:
    """Return the kind of device on which Keras' backend computes here."""
    start()
    import keras

    place = str(keras.random.uniform((1,)).device).lower()  # "/job:localhost/.../device:GPU:0", "cuda:0", "TFRT_CPU_0"
    return "gpu" if "gpu" in place or "cuda" in place else "cpu"


def idle_gpu_warning() -> str | None:
    """Return what to tell a user whose accelerators the backend does not use; None where all is as it should be."""
    devices = visible_devices()
    if not devices or training_device() == "gpu":
        return None
    seen = "a GPU is" if len(devices) == 1 else f"{len(devices)} GPUs are"
    backend = os.environ["KERAS_BACKEND"]
    remedy = "pip install 'pneumosearch[gpu]'" if backend == "tensorflow" else f"install {backend} with CUDA"
    return f"{seen} visible, but {backend} trains on the processor; {remedy}, or set CUDA_VISIBLE_DEVICES="


def resolved_precision(choice: PrecisionChoice) -> Precision:
    """Return `choice`, or for "auto" what the device that trains computes fastest without loss.

    A bfloat16 network trains as well as a float32 one, and is faster where the processor multiplies bfloat16 at a
    higher rate: Intel's with AMX, AMD's with AVX512-BF16. With Intel's AVX512-BF16 alone it is slower. Figures of all
    three in results/LOG.md.
    """
    if choice != "auto":
        return choice
    if visible_devices() and training_device() == "gpu":  # Keras need not be imported where there is no GPU
        return "float32"  # bfloat16 has not been measured on one
    maker, flags = processor()
    native = "amx_bf16" in flags or (maker == "AuthenticAMD" and "avx512_bf16" in flags)
    return "bfloat16" if native else "float32"


def processor() -> tuple[str, frozenset[str]]:
    """Return the processor's maker and the abilities that it reports; nothing where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "", frozenset()
    # Of the last core, and all are alike.
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return fields.get("vendor_id", ""), frozenset(fields.get("flags", "").split())


@cache
def versions() -> dict[str, str]:
    """Return the versions that decide a training's numbers, and the number of threads, which does so too."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    start()
    found = {"python": platform.python_version(), "machine": platform.machine(), "threads": str(threads_a_training())}
    for package in ("pneumosearch", "numpy", "keras", "optuna", "opencv-python-headless", os.environ["KERAS_BACKEND"]):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a package"
    return found


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Keep what native code writes to standard error from the terminal; show it if the start fails."""
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
