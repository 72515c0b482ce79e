import numpy as np
import numpy.typing as npt
import pytest

from pneumosearch.config import TrialConfig
from pneumosearch.errors import ConfigError
from pneumosearch.network import backend
from pneumosearch.network.grad_cam import grad_cam, overlay
from tests.conftest import TINY
from tests.support.networks import weighing


@pytest.mark.parametrize(
    "changes", [{}, {"n_blocks": 3}, {"head": "mean"}, {"convolution": "plain", "n_blocks": 2}], ids=str
)
def test_heat_is_there_for_every_shape_of_the_family(changes: dict[str, object]) -> None:
    backend.start()
    from pneumosearch.network.model import plain_model

    model = plain_model(TrialConfig.checked({**TINY, **changes}, "test"))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32)).astype(np.uint8)
    heat = grad_cam(model, pixels)
    assert heat.shape == (3, 32, 32)
    assert heat.dtype == np.float32
    assert ((heat >= 0) & (heat <= 1)).all()
    assert {float(one.max()) for one in heat} <= {0.0, 1.0}
    assert grad_cam(model, pixels[:0]).shape == (0, 32, 32)


def bright_on_the_left() -> npt.NDArray[np.uint8]:
    pixels = np.zeros((1, 8, 8), np.uint8)
    pixels[:, :, :4] = 255
    return pixels


@pytest.mark.parametrize("weight", [1.0, -1.0])
def test_heat_lies_where_the_answer_comes_from_even_of_a_network_that_is_sure(weight: float) -> None:
    pixels = bright_on_the_left()
    model = weighing(weight)
    assert abs(float(model(np.repeat(pixels[..., None] / np.float32(255), 3, axis=-1))[0, 0]) - 0.5) == 0.5
    heat = grad_cam(model, pixels)[0]
    assert (heat[:, :4] == 1.0).all()
    assert (heat[:, 4:] == 0.0).all()


def test_heat_speaks_for_the_answer_that_is_asked_for() -> None:
    pixels, model = bright_on_the_left(), weighing(1.0)
    assert grad_cam(model, pixels, np.array([True])).any()
    assert not grad_cam(model, pixels, np.array([False])).any()


def test_networks_of_another_form_have_no_heat() -> None:
    with pytest.raises(ConfigError, match="ends in one sigmoid unit"):
        grad_cam(weighing(1.0, "linear"), bright_on_the_left())


def test_overlay_colours_only_what_is_hot() -> None:
    pixels = np.full((4, 4), 100, np.uint8)
    heat = np.zeros((4, 4), np.float32)
    heat[0, 0] = 1.0
    picture = overlay(pixels, heat)
    assert picture.shape == (4, 4, 3)
    assert picture.dtype == np.uint8
    assert (picture[1:] == 100).all()
    assert len(set(picture[0, 0].tolist())) > 1
