"""Archives as the publishers lay them out."""

import hashlib
import io
import zipfile
from pathlib import Path

#: The layout of Mendeley's archive: no val, and what macOS adds.
MENDELEY = [
    "chest_xray/.DS_Store",
    "chest_xray/train/.DS_Store",
    "chest_xray/train/NORMAL/IM-0115-0001.jpeg",
    "chest_xray/train/NORMAL/NORMAL2-IM-0383-0001.jpeg",
    "chest_xray/train/PNEUMONIA/person1_bacteria_1.jpeg",
    "chest_xray/train/PNEUMONIA/person1_virus_6.jpeg",
    "chest_xray/test/NORMAL/IM-0001-0001.jpeg",
    "chest_xray/test/PNEUMONIA/person3_virus_15.jpeg",
    "__MACOSX/chest_xray/train/NORMAL/._IM-0115-0001.jpeg",
]
#: The layout of Kaggle's: val, a second copy inside of the first, and what macOS adds to that.
KAGGLE = [
    *(f"chest_xray/{split}/NORMAL/IM-{i}-0001.jpeg" for i, split in enumerate(("train", "val", "test"))),
    *(f"chest_xray/{split}/PNEUMONIA/person{i}_virus_1.jpeg" for i, split in enumerate(("train", "val", "test"))),
    *(f"chest_xray/chest_xray/{split}/NORMAL/IM-{i}-0001.jpeg" for i, split in enumerate(("train", "test"))),
    *(f"chest_xray/chest_xray/{split}/PNEUMONIA/person{i}_virus_1.jpeg" for i, split in enumerate(("train", "test"))),
    "chest_xray/__MACOSX/chest_xray/train/NORMAL/._IM-0-0001.jpeg",
]


def content(name: str) -> bytes:
    """Bytes that do not compress, and are the same wherever an image of that name lies."""
    return hashlib.shake_256(name.rpartition("/")[2].encode()).digest(100_000)


def zipped(names: list[str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, content(name))
    return out.getvalue()


def ignore(*_: object) -> None:
    """A progress that shows nothing."""


def images(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpeg"))


def remains(folder: Path) -> list[str]:
    """What lies beside `folder`."""
    return sorted(path.name for path in folder.parent.iterdir() if path != folder)
