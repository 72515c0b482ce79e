"""Where the published images are, under which licence, and whom to cite."""

import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any, Final, Literal

from pneumosearch.data.fetch.download import HEADERS, TIMEOUT, reason
from pneumosearch.errors import ConfigError, DataError

Source = Literal["mendeley", "kaggle"]

#: Version 2 of the data set of this DOI is the one with the archive of the X-rays alone.
MENDELEY_PAGE: Final = "https://data.mendeley.com/datasets/rscbjbr9sj/2"
#: Lists the files of that version: names, addresses, checksums.
MENDELEY_API: str = "https://data.mendeley.com/public-api/datasets/rscbjbr9sj/files?folder_id=root&version=2"
MENDELEY_FILE: Final = "ChestXRay2017.zip"

KAGGLE: Final = "paultimothymooney/chest-xray-pneumonia"
KAGGLE_PAGE: Final = f"https://www.kaggle.com/datasets/{KAGGLE}"
_KAGGLE_VERSION: Final = 2

LICENCE: Final = "CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/)"
CITATION: Final = (
    "Kermany, D., Zhang, K., Goldbaum, M. (2018): Labeled Optical Coherence Tomography (OCT) and Chest X-Ray Images "
    "for Classification. Mendeley Data, V2. doi:10.17632/rscbjbr9sj.2",
    "Kermany, D. S., Goldbaum, M., Cai, W., et al. (2018): Identifying Medical Diagnoses and Treatable Diseases by "
    "Image-Based Deep Learning. Cell 172(5), 1122-1131. doi:10.1016/j.cell.2018.02.010",
)


@dataclass(frozen=True)
class Archive:
    """A file on a web server."""

    url: str
    sha256: str | None


#: The archive as users of the data set report it, for the day when the list of files gives no answer.
MENDELEY_ARCHIVE: Archive = Archive(
    "https://data.mendeley.com/public-files/datasets/rscbjbr9sj/files/f12eaf6d-6023-432f-acc9-80c9d7393433/file_downloaded",
    "13efc055629733dbab07877f8b3c9f81097840dbcdaa326a8542322c2281ce36",
)


def mendeley_archive() -> Archive:
    """Return address and checksum of the archive, as Mendeley's list of files has them, else as they were reported."""
    import requests

    try:
        response = requests.get(MENDELEY_API, headers=HEADERS, timeout=TIMEOUT)
        response.raise_for_status()
        return _listed(response.json())
    except (requests.exceptions.RequestException, ValueError, TypeError, KeyError):
        return MENDELEY_ARCHIVE


def _listed(files: Any) -> Archive:
    """Find the archive in Mendeley's list. Raises ValueError, TypeError or KeyError where it has another form."""
    for file in files:
        if file["filename"] == MENDELEY_FILE:
            details = file["content_details"]
            return Archive(str(details["download_url"]), str(details["sha256_hash"]).lower())
    raise ValueError(f"no {MENDELEY_FILE} in the list")


def kaggle_folder() -> Path:
    """Return the folder into which kagglehub unpacks Kaggle's copy. It resumes and verifies by itself.

    Raises:
        ConfigError: kagglehub is not installed.
        DataError: Kaggle gives no answer, or refuses.
    """
    import requests

    try:
        import kagglehub
        from kagglehub.exceptions import DataCorruptionError, UnauthenticatedError
    except ImportError as error:
        raise ConfigError("--source kaggle needs kagglehub: pip install 'pneumosearch[kaggle]'") from error
    try:
        with redirect_stdout(sys.stderr):  # where kagglehub says what is no result of ours
            return Path(kagglehub.dataset_download(f"{KAGGLE}/versions/{_KAGGLE_VERSION}"))
    except requests.exceptions.RequestException as error:
        raise DataError(f"Kaggle gives no images ({reason(error)})") from error
    except (OSError, ValueError, DataCorruptionError, UnauthenticatedError) as error:
        first = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise DataError(f"Kaggle gives no images ({first})") from error


def by_hand(source: Source, folder: Path) -> str:
    """Return what a user does without a network here."""
    page, file = (KAGGLE_PAGE, "archive.zip") if source == "kaggle" else (MENDELEY_PAGE, MENDELEY_FILE)
    command = f"pneumosearch data fetch {quote(str(folder))} --url {file}"
    return f"by hand: download {file} from {page} with a browser, then: {command}"
