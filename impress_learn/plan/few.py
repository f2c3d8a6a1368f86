"""A task of few images: whether the masks may vote in it, in place of coefficients."""

from __future__ import annotations

from dataclasses import replace

from impress_format.bank import Bank
from impress_format.errors import BankMismatch
from impress_learn.parts.table import Parts, settle
from impress_learn.plan.tasks import TaskRequest
from impress_learn.streams.classes import masks_that_may_answer
from impress_learn.streams.held_out import count_training

FEW = 1_000
"""Fewer images than these choose where a task begins, and hold it near that; or let masks vote."""


def chooses_beginning(request: TaskRequest) -> bool:
    """Whether few images choose what its coefficients begin from."""
    return bool(request.parts.alpha) and not request.parts.hybrid and request.start is None


def may_look_at_stored_tasks(request: TaskRequest) -> bool:
    """Whether what is learned may depend on stored tasks: groups that are held out take more images than is planned."""
    fit = request.fit
    few = count_training(request.reference.data_set, fit.holdout, fit.shots) < 2 * FEW
    return few and any(map(chooses_beginning, request.choices()))


def may_vote(bank: Bank, request: TaskRequest) -> bool:
    """Whether masks can vote in a task: two or more of its classes, if it begins from no stored one."""
    if bank.manifest.format_version == 1 or request.start is not None:
        return False
    return sum(masks_that_may_answer(bank, request.classes)) > 1


def check_voters(bank: Bank, request: TaskRequest) -> None:
    """Refuse a vote in which no mask may answer.

    Raises:
        BankMismatch: all masks tell other classes apart, or the same by other outputs.
    """
    if request.parts.vote and not any(masks_that_may_answer(bank, request.classes)):
        raise BankMismatch(
            f"{bank.path} has no mask of the classes of {request.reference} in their order, none that could vote: "
            "learn it by coefficients (`vote=False`)"
        )


def voting(signature: bool) -> Parts:
    """The parts of a task whose masks vote."""
    return Parts(vote=True, alpha=False, head=0, signature=signature)


def or_vote(bank: Bank, request: TaskRequest, asked: Parts) -> TaskRequest:
    """The request, or where nobody asks for other parts than usual and images are few, one whose masks vote, unless
    what is usual promises more.

    Args:
        asked: as they were asked for.
    """
    images = count_training(request.reference.data_set, request.fit.holdout, request.fit.shots)
    if images >= FEW or not may_vote(bank, request) or asked.vote is not None or asked.alpha is not None:
        return request
    usual = settle(bank, Parts(signature=asked.signature))
    if not usual.alpha or request.parts != usual:
        return request
    return replace(request, parts=voting(request.parts.signature), instead=request)
