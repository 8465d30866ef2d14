"""Data sets and task losses."""

from wfm.tasks.load import load_task
from wfm.tasks.objective import BatchLoss, check_data, mean_loss
from wfm.tasks.task import Split, Task, accuracy, cross_entropy

__all__ = ["BatchLoss", "Split", "Task", "accuracy", "check_data", "cross_entropy"]
__all__ += ["load_task", "mean_loss"]
