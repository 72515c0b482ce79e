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
