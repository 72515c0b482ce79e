"""The warnings of a library about a file reach the thread that reads it, and no one else."""

import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import pytest

from pneumosearch._utils.foreign_warnings import foreign_warnings


@pytest.fixture
def library() -> ModuleType:
    """A library of the name `loud` that warns as Pillow does, with no regard to who calls."""
    module = ModuleType("loud.reader")
    code = compile("import warnings\ndef read(text):\n    warnings.warn(text)\n", "loud/reader.py", "exec")
    exec(code, module.__dict__)  # noqa: S102 - a module of that name, which only its globals tell
    return module


def test_warnings_are_collected_and_neither_shown_nor_raised(library: ModuleType) -> None:
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("error")
        with foreign_warnings("loud") as heard:
            library.read("first")
            with foreign_warnings("loud") as inner:
                library.read("second")
            library.read("first")
    assert [str(warning) for warning in heard] == ["first", "first"]
    assert [str(warning) for warning in inner] == ["second"]
    assert shown == []


def test_warnings_of_others_stay_what_they_were(library: ModuleType) -> None:
    with foreign_warnings("quiet"), pytest.raises(UserWarning, match="an error in these tests"):
        library.read("an error in these tests")


def test_filters_are_as_before_even_after_an_error(library: ModuleType) -> None:
    before = warnings.filters[:], warnings.showwarning
    with pytest.raises(KeyError), foreign_warnings("loud"):
        raise KeyError
    assert (warnings.filters[:], warnings.showwarning) == before
    with pytest.raises(UserWarning, match="again an error"):
        library.read("again an error")


def test_each_thread_hears_its_own(library: ModuleType) -> None:
    n, before = 8, warnings.filters[:]
    together = threading.Barrier(n)

    def read(number: int) -> list[str]:
        with foreign_warnings("loud") as heard:
            together.wait(30)
            library.read(f"file {number}")
            together.wait(30)
        return [str(warning) for warning in heard]

    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(n) as pool:
            assert list(pool.map(read, range(n))) == [[f"file {number}"] for number in range(n)]
    finally:
        sys.setswitchinterval(switching)
    assert warnings.filters[:] == before
