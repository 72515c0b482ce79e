import pytest

from pneumosearch import backend


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ({"avx512f", "avx512_bf16", "amx_bf16", "amx_tile"}, "bfloat16"),
        ({"avx512f", "avx512_bf16"}, "float32"),
        (set(), "float32"),
    ],
)
def test_auto_takes_bfloat16_where_the_processor_multiplies_matrices_of_it(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], precision: str
) -> None:
    monkeypatch.setattr(backend, "_processor_flags", lambda: frozenset(flags))
    assert backend.resolved_precision("auto") == precision
    assert backend.resolved_precision("float32") == "float32"
    assert backend.resolved_precision("bfloat16") == "bfloat16"
