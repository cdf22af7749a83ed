"""The embedded images, and a folder of photos."""

import pytest
from image_data import CPU, PARTS

from midas.images.datasets import KNOWN
from midas.images.folders import write_photos
from midas.images.reading import load


@pytest.fixture(scope="session")
def digits():
    return load(KNOWN["digits"], CPU)


@pytest.fixture(scope="session")
def pairs():
    return load(KNOWN["digit_pairs"], CPU)


@pytest.fixture
def photos(tmp_path):
    write_photos(tmp_path / "images", *PARTS)
    return tmp_path / "images"
