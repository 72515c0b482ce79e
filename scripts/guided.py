"""Coverage-guided fuzzing of study files or images with atheris; see `scripts/fuzz --guided`."""

import io
import sys
import tempfile
from pathlib import Path
from typing import Final

import atheris
from PIL import Image

with atheris.instrument_imports(include=["pneumosearch", "PIL", "tomllib"]):
    from pneumosearch.data.audit.features import read_image
    from pneumosearch.data.cache import network_input
    from pneumosearch.data.manifest import ImageFile
    from pneumosearch.errors import PneumosearchError
    from pneumosearch.studyfile import read_study_file

STUDIES: Final = Path(__file__).resolve().parent.parent / "studies"
_MEMORY: Final = 2048  # memory limit of the process, MiB
_SECONDS: Final = 20  # time limit of an input


def feed_study_file(data: bytes, folder: Path) -> None:
    """Read `data` as a study file."""
    path = folder / "study.toml"
    path.write_bytes(data)
    read_study_file(path).search_space()


def feed_image(data: bytes, folder: Path) -> None:
    """Read `data` as training and the audit read an image."""
    (folder / "image.png").write_bytes(data)
    network_input(folder / "image.png", 32, "area", "clahe")
    read_image(folder, ImageFile("image.png", "train", 0))


def examples(target: str) -> list[bytes]:
    """Return valid inputs as a starting corpus."""
    if target == "study-file":
        return [path.read_bytes() for path in sorted(STUDIES.glob("*.toml"))]
    found = []
    for mode in ("L", "RGB", "P", "I;16"):
        for form in ("PNG", "JPEG") if mode in ("L", "RGB") else ("PNG",):
            file = io.BytesIO()
            Image.new(mode, (40, 36)).save(file, form)
            found.append(file.getvalue())
    return found


def main(target: str, seconds: str) -> None:
    """Fuzz until the time is over; exit with a non-zero code at the first harmful input."""
    feeder = {"study-file": feed_study_file, "image": feed_image}[target]
    with tempfile.TemporaryDirectory() as name:
        folder, corpus = Path(name) / "read", Path(name) / "corpus"
        folder.mkdir()
        corpus.mkdir()
        for number, example in enumerate(examples(target)):
            (corpus / str(number)).write_bytes(example)

        def one_input(data: bytes) -> None:
            try:
                feeder(data, folder)
            except PneumosearchError as error:
                if "\n" in str(error).strip():
                    raise AssertionError(f"more than a line: {error}") from error

        limits = [f"-max_total_time={seconds}", f"-rss_limit_mb={_MEMORY}", f"-timeout={_SECONDS}", "-max_len=16384"]
        atheris.Setup([sys.argv[0], *limits, "-print_final_stats=1", str(corpus)], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
