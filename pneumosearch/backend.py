"""Starting Keras: the one place that prepares the process before a backend is imported."""

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

from pneumosearch.config import Precision, PrecisionChoice
from pneumosearch.resources import threads_a_training

_ENVIRONMENT: Final = {
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_MODULE_LOADING": "LAZY",
}


@cache
def start() -> None:
    """Import Keras and its backend, once, with the environment set; values that the user has set win."""
    import cv2

    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # It warns of every network's own trace, of which a study has many.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    cv2.setNumThreads(1)  # the network's own threads have the cores
    with _quiet_stderr():
        import keras

        keras.random.uniform((1,))  # starts the backend's devices, which would write to the terminal later


def resolved_precision(choice: PrecisionChoice) -> Precision:
    """Return `choice`, or for "auto" what this machine's processor computes fastest without loss.

    bfloat16 only where the processor multiplies matrices of it (AMX). AVX512-BF16 alone is slower than float32, and a
    bfloat16 network trains as well as a float32 one; figures of both in results/LOG.md.
    """
    if choice != "auto":
        return choice
    return "bfloat16" if "amx_bf16" in _processor_flags() else "float32"


def _processor_flags() -> frozenset[str]:
    """Return the abilities that the processor reports; none where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), []))


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
