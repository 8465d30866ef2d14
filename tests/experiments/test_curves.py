"""Curves and dots say what records say."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from experiments import curves
from experiments.curves import Curves, Dots
from experiments.measures import pictures
from tests.experiments.test_pages import page, record


@pytest.fixture
def figure(monkeypatch):
    """What is drawn, as it is when it is saved."""
    found = []
    monkeypatch.setattr(curves.plots, "save", lambda drawn, path: found.append((drawn, path)))
    yield found
    plt.close("all")


CURVES = Curves(
    "Loss against steps",
    x="steps",
    lines="way",
    panels=("flow",),
    where={"metric": "loss"},
    level={"way": "zoo"},
    shown={"euler": "C0:", "adam": "k--", "zoo": "k:", "never": "C1-"},
    axis={"xscale": "log", "ylabel": "loss"},
    limits=lambda found: (0.0, 2 * max(x.value for x in found)),
)


def test_curves_and_the_legend_name_what_is_drawn(figure, tmp_path):
    points = [
        record(value, flow=flow, way=way, steps=steps, error=0.1)
        for flow, way, steps, value in (
            ("a", "euler", 4, 0.5),
            ("a", "euler", 1, 1.0),
            ("b", "euler", 4, 0.25),
            ("b", "adam", 4, 3.0),
        )
    ]
    points += [
        record(0.4, flow="a", way="zoo"),
        record(9.0, metric="accuracy", flow="a", way="zoo"),
    ]
    CURVES.draw(page(found=points, target=tmp_path / "tried"))
    ((drawn, path),) = figure
    assert path == tmp_path / "tried.png"
    assert CURVES.markdown(page(target=tmp_path / "tried")) == "![Loss against steps](tried.png)"
    (legend,) = drawn.legends
    assert [t.get_text() for t in legend.get_texts()] == ["euler", "adam", "trained networks"]
    first, second = drawn.axes
    assert [axes.get_title() for axes in drawn.axes] == ["a", "b"]
    lines = [tuple(map(list, line.get_data())) for line in first.lines]
    assert ([1, 4], [1.0, 0.5]) in lines  # in the order of x
    assert any(y == [0.4, 0.4] for _, y in lines)  # the level, of this flow alone
    assert len(second.lines) == 2
    assert (first.get_ylim(), second.get_ylim()) == ((0, 2), (0, 6))


def test_curves_are_means_over_seeds(figure, tmp_path):
    points = [record(v, flow="a", way="euler", steps=1, seed=s) for s, v in enumerate((1.0, 3.0))]
    CURVES.draw(page(found=points, target=tmp_path / "tried"))
    ((drawn, _),) = figure
    assert [list(line.get_ydata()) for line in drawn.axes[0].lines] == [[2.0]]


def test_dots_have_the_places_of_their_means(figure, tmp_path):
    points = [
        record(v, metric=m, study=study, row=row, seed=seed)
        for study, row, seed, novelty, accuracy in (
            ("x", "one", 0, 0.5, 0.8),
            ("x", "one", 1, 0.7, 0.9),
            ("y", "two", 0, 0.9, 0.7),
        )
        for m, v in (("novelty", novelty), ("accuracy", accuracy))
    ]
    Dots(
        "Accuracy against novelty",
        x="novelty",
        metrics=("accuracy",),
        group="study",
        title=lambda x: x.at["row"],
        where={},
        shown={"novelty": (0, 1), "accuracy": (0, 1)},
        levels={"novelty": 0.5, "accuracy": 0.9},
    ).draw(page(found=points, target=tmp_path / "tried"))
    ((drawn, _),) = figure
    (axes,) = drawn.axes
    dots = {line.get_label(): np.ravel(line.get_data()) for line in axes.lines[:2]}
    np.testing.assert_allclose(dots["x"], [0.6, 0.85])
    np.testing.assert_allclose(dots["y"], [0.9, 0.7])
    assert {t.get_text() for t in axes.texts} == {"one", "two"}


def test_kernels_are_laid_out_as_squares():
    kernel = np.arange(8.0).reshape(4, 2)  # two neurons that see 2 by 2 pixels
    picture = pictures.mosaic([kernel, 2 * kernel])
    assert picture.shape == (8, 8)
    np.testing.assert_allclose(picture[1:3, 1:3], np.array([[0, 2], [4, 6]]) / 7)
    np.testing.assert_allclose(picture[5:7, 5:7], np.array([[1, 3], [5, 7]]) / 7)
    assert np.isnan(picture[0]).all()
