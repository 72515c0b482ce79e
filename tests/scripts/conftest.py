"""What the tests of the live race share."""

from pathlib import Path

import pytest

STUDY = """
[fixed]
image_size = 32
width = 0.25
units_1 = 16
epochs = 2
[space]
zoom = { low = 0.0, high = 0.5, step = 0.05 }
batch_size = { choices = [16, 32] }
"""


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(STUDY)
    return path
