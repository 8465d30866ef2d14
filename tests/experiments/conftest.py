"""What tests of studies share."""

import pytest

from experiments.build import load_once
from tests.experiments.tiny import write_tasks


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Tiny images in place of MNIST and Fashion-MNIST."""
    with pytest.MonkeyPatch.context() as patch:
        write_tasks(tmp_path_factory.mktemp("data"), patch, "mnist", "fashion_mnist")
        yield
    load_once.cache_clear()
