"""The whole jobs, one file each and one call each: what a command does, and a program may.

A job first looks for all that could stop it (settings, data, space on the disk, a name that is taken), then holds its
lock, resumes what an interrupted run left, and computes. torch is imported when that has been found in order.
"""

from impress_learn.jobs.add import add_tasks
from impress_learn.jobs.add_dataset import add_dataset
from impress_learn.jobs.create import create_bank
from impress_learn.jobs.discover import discover_tasks
from impress_learn.jobs.evaluate import evaluate
from impress_learn.jobs.export import export_weights
from impress_learn.jobs.extend import extend_bank
from impress_learn.jobs.identify import evaluate_basis_gn, evaluate_gn
from impress_learn.jobs.infer import infer
from impress_learn.jobs.report import report_bank
from impress_learn.jobs.update import update_task
from impress_learn.jobs.upgrade import upgrade_bank

__all__ = [
    "add_dataset",
    "add_tasks",
    "create_bank",
    "discover_tasks",
    "evaluate",
    "evaluate_basis_gn",
    "evaluate_gn",
    "export_weights",
    "extend_bank",
    "infer",
    "report_bank",
    "update_task",
    "upgrade_bank",
]
