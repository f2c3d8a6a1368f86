"""The tasks that images may be of, over a bank in memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from impress_format.errors import BankMismatch
from impress_format.parts.alpha import alpha_columns
from impress_learn.identify.found import Candidate, Found
from impress_learn.masks.basis import common_granularity, refine
from impress_learn.network.backbone import Effective
from impress_learn.recognition.signature_maker import Recognise, SignatureMaker
from impress_learn.running.loaded import RunningBank
from impress_learn.streams.classes import TaskClasses, stored_classes


@dataclass(frozen=True, eq=False)
class Mixable:
    """Coefficients of T tasks over one basis, in a form in which they can be mixed.

    Attributes:
        alpha: float32 (T, K, columns); that of a mask's own task is 1 where the mask is, else 0.
        granularity: what the columns mean (effective_weights): the finest that is needed.
        classes: int (T,), how many each tells apart.
    """

    alpha: Tensor
    granularity: int
    classes: Tensor

    def __len__(self) -> int:
        return len(self.alpha)

    def some(self, indices: Tensor) -> Mixable:
        """Those of some tasks."""
        return Mixable(self.alpha[indices], self.granularity, self.classes[indices])


@dataclass(frozen=True)
class Candidates:
    """T tasks to choose from, over a bank in memory."""

    loaded: RunningBank
    found: Found

    def __len__(self) -> int:
        return len(self.found)

    @property
    def tasks(self) -> tuple[Candidate, ...]:
        return self.found.tasks

    def weights(self, index: int) -> Effective:
        """Effective weights of one task, and the norm statistics under them."""
        candidate = self.tasks[index]
        if candidate.mask is not None:
            return self.loaded.mask_weights(candidate.mask)
        return self.loaded.task_weights(candidate.name)

    def classes(self, index: int) -> TaskClasses:
        """The classes that one task tells apart."""
        candidate, bank = self.tasks[index], self.loaded.bank
        record = None if candidate.mask is not None else bank.read_task_record(candidate.name)
        return stored_classes(bank, candidate.task, record)

    @cached_property
    def counts(self) -> list[int]:
        """How many classes each task tells apart."""
        counts = [
            0 if candidate.mask is None else self.classes(place).count for place, candidate in enumerate(self.tasks)
        ]
        for places, _, group in self.found.stored:
            for place in places:
                counts[place] = group.classes
        return counts

    @property
    def has_signatures(self) -> bool:
        """Whether all of them have a signature."""
        return self.loaded.signature_maker is not None and self.found.without_signature is None

    @cached_property
    def recognise(self) -> Recognise:
        """What compares images with all of them.

        Raises:
            BankMismatch: one has no signature.
        """
        return self.check_has_signatures().known(self.found.signatures, self.found.headed)

    def check_has_signatures(self) -> SignatureMaker:
        """What the signatures of all of them were made with.

        Raises:
            BankMismatch: one has no signature.
        """
        if (signature_maker := self.loaded.signature_maker) is None or (
            without_signature := self.found.without_signature
        ) is not None:
            which = "it has no recogniser" if signature_maker is None else f"{without_signature.name} has none"  # type: ignore[union-attr]
            raise BankMismatch(
                f"{self.loaded.bank.path}: signatures of all tasks are needed, and {which}: try `method` exhaustive"
            )
        return signature_maker

    @cached_property
    def mixable(self) -> Mixable:
        """Coefficients of all of them.

        Raises:
            BankMismatch: one has a head, a residual, a mask of its own or masks that vote, which no mixture has.
        """
        if not self.found.mixable:
            raise BankMismatch(
                f"{self.loaded.bank.path} has tasks with a head, a residual, a mask of their own or masks that vote, "
                "which cannot be mixed: try `method` signature, or exhaustive"
            )
        layers, basis = self.loaded.bank.backbone.masked_layers, self.loaded.basis
        channels = [layer.shape[0] for layer in layers]
        common = common_granularity({group.granularity for _, _, group in self.found.stored}, channels)
        alpha = torch.zeros(len(self), len(basis), sum(alpha_columns(layers, common)))
        for places, rows, group in self.found.stored:
            chosen = torch.from_numpy(group.alpha(np.asarray(rows, dtype=np.intp)))
            alpha[list(places), : chosen.shape[1]] = refine(chosen, channels, group.granularity, common)
        for place, candidate in enumerate(self.tasks):
            if candidate.mask is not None:
                alpha[place, candidate.mask] = 1.0
        return Mixable(alpha.to(basis.device), common, torch.tensor(self.counts, device=basis.device))
