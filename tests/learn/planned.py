"""Banks of digits as they are before anything is trained."""

from __future__ import annotations

from pathlib import Path

from impress_format.bank import Bank
from impress_format.operations.create import write_plan
from impress_format.records.masks import MaskPlan
from impress_learn.network.backbone import Backbone
from impress_learn.plan.bank import plan_bank
from impress_learn.streams.digits import DIGITS
from impress_learn.streams.view import default_view


def planned_bank(path: Path, backbone: Backbone, plans: tuple[MaskPlan, ...]) -> Bank:
    """A bank whose masks are planned, without a recogniser."""
    planned = plan_bank(
        backbone.spec,
        plans,
        default_view(DIGITS),
        DIGITS.class_names,
        {},
        seed=0,
        calibration=backbone.has_batch_norm,
        task_classifier=False,
    )
    return write_plan(path, planned)
