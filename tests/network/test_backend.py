import os
import subprocess
import sys
from pathlib import Path

import pytest

from pneumosearch.network import backend


@pytest.mark.parametrize(
    ("maker", "flags", "precision"),
    [
        ("GenuineIntel", {"avx512f", "avx512_bf16", "amx_bf16", "amx_tile"}, "bfloat16"),
        ("GenuineIntel", {"avx512f", "avx512_bf16"}, "float32"),
        ("AuthenticAMD", {"avx512f", "avx512_bf16"}, "bfloat16"),
        ("AuthenticAMD", {"avx2"}, "float32"),
        ("", set(), "float32"),
    ],
)
def test_auto_takes_bfloat16_where_the_processor_is_faster_with_it(
    monkeypatch: pytest.MonkeyPatch, maker: str, flags: set[str], precision: str
) -> None:
    monkeypatch.setattr(backend, "processor", lambda: (maker, frozenset(flags)))
    assert backend.resolved_precision("auto") == precision
    assert backend.resolved_precision("float32") == "float32"
    assert backend.resolved_precision("bfloat16") == "bfloat16"


@pytest.mark.parametrize(
    ("flags", "given", "expected"),
    [
        ({"avx2"}, None, "1"),
        ({"avx2", "avx512f", "avx512_bf16"}, None, "1"),
        ({"sse4_2"}, None, "None"),
        (set(), None, "None"),
        ({"avx2"}, "0", "0"),
    ],
)
def test_tensorflow_computes_with_onednn_where_that_is_faster_unless_the_user_has_chosen(
    flags: set[str], given: str | None, expected: str
) -> None:
    code = (
        "import os, sys; from unittest.mock import MagicMock; sys.modules['keras'] = MagicMock();"
        "from pneumosearch.network import backend;"
        f"backend.processor = lambda: ('AuthenticAMD', frozenset({flags!r}));"
        "backend.start(); print(os.environ.get('TF_ENABLE_ONEDNN_OPTS'))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    if given is not None:
        environment["TF_ENABLE_ONEDNN_OPTS"] = given
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == expected


def test_tensorflow_heeds_the_variable_of_onednn() -> None:
    backend.start()
    if os.environ["KERAS_BACKEND"] != "tensorflow" or os.environ.get("TF_ENABLE_ONEDNN_OPTS") != "1":
        pytest.skip("oneDNN is not asked for here")
    from tensorflow.python.framework.test_util import IsMklEnabled

    assert IsMklEnabled()


def test_gpu_that_trains_decides_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "visible_devices", lambda: ["0"])
    monkeypatch.setattr(backend, "training_device", lambda: "gpu")
    assert backend.resolved_precision("auto") == "float32"
    assert backend.resolved_precision("bfloat16") == "bfloat16"
    assert backend.idle_gpu_warning() is None


def test_gpu_that_is_not_used_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.setattr(backend, "training_device", lambda: "cpu")
    monkeypatch.setattr(backend, "visible_devices", lambda: [])
    assert backend.idle_gpu_warning() is None
    monkeypatch.setattr(backend, "visible_devices", lambda: ["0", "1"])
    warning = str(backend.idle_gpu_warning())
    assert warning.startswith(
        "2 GPUs are visible, but tensorflow trains on the processor; pip install 'pneumosearch[gpu]'"
    )


def test_device_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "training_device", lambda: "cpu")
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "3")
    assert backend.device_in_words() == "the processor, 3 threads"
    monkeypatch.setattr(backend, "training_device", lambda: "gpu")
    monkeypatch.setattr(backend, "visible_devices", lambda: ["0"])
    assert backend.device_in_words() == "the GPU"


def test_device_is_the_one_that_keras_computes_on() -> None:
    assert backend.training_device() in ("cpu", "gpu")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vendor_id\t: AuthenticAMD\nflags\t\t: avx2 avx512_bf16\n", ("AuthenticAMD", {"avx2", "avx512_bf16"})),
        ("Features\t: fp asimd bf16\n", ("", set())),
        (None, ("", set())),
    ],
)
def test_a_system_that_does_not_tell_its_processor_is_no_mistake(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None, expected: tuple[str, set[str]]
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    if text is not None:
        cpuinfo.write_text(text)
    monkeypatch.setattr(backend, "Path", lambda name: cpuinfo)
    maker, flags = backend.processor()
    assert (maker, set(flags)) == expected


def test_backend_is_known_though_the_environment_has_changed_since_its_import(monkeypatch: pytest.MonkeyPatch) -> None:
    backend.start()
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    backend.versions.cache_clear()
    assert backend.versions().keys() >= {"keras", "tensorflow"}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [({"avx512f", "avx2", "fma"}, "avx2, avx512f"), ({"asimd"}, "no vector abilities known")],
)
def test_versions_have_the_instructions_that_the_last_digits_depend_on(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], expected: str
) -> None:
    monkeypatch.setattr(backend, "processor", lambda: ("AuthenticAMD", frozenset(flags)))
    backend.versions.cache_clear()
    try:
        assert backend.versions()["instructions"] == expected
    finally:
        backend.versions.cache_clear()
