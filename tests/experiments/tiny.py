"""The experiments on images, made tiny."""

from tests.tasks.idx_files import write_images
from wfm.tasks.images import FOLDER


def make_tiny(base):
    """Change a config of `experiments.mnist` in place: seconds instead of minutes."""
    base.hidden = (3,)
    base.zoo.prior_std = 0.5
    base.zoo.update({"networks": 8, "epochs": 4, "burn_in": 1, "stride": 2, "held_out": 0.25})
    base.zoo.update({"batch_size": 10, "learning_rate": 0.01})
    base.field.update({"width": 8, "depth": 1})
    base.training.update({"steps": 6, "report_every": 3})
    base.sampling.update({"networks": 5, "steps": 3, "guidance_batch": 10})
    base.averages = (1, 2, 4)


def write_tasks(folder, monkeypatch, *names, classes=2):
    """Files of random images for tasks, found through the environment."""
    monkeypatch.setenv(FOLDER, str(folder))
    for name in names:
        write_images(folder / name, (4, 4), classes=classes)
