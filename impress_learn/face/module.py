"""A stored task as an ordinary torch module: the plain network that `impress export` writes, in memory."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from impress_learn.network.backbone import Vote, each_tensor, members_of
from impress_learn.network.plain_check import check_module
from impress_learn.network.plain_network import (
    MirroredNetwork,
    VotingNetworks,
    loading,
    logits_in_float64,
    of_classes,
    plain_state,
)
from impress_learn.network.probe import probe_images
from impress_learn.streams.classes import stored_classes

if TYPE_CHECKING:
    from impress_learn.running.loaded import RunningBank

_CHECKED = 3
"""Seeded images by which the network is held to the bank."""


def task_module(loaded: RunningBank, task: str) -> nn.Module:
    """As LoadedBank.module."""
    name = loaded.bank.find_task(task)
    record = loaded.bank.read_task_record(name)
    classes = stored_classes(loaded.bank, record.task, record)
    backbone = loaded.answering(None).to(torch.device("cpu"))
    effective = each_tensor(loaded.task_weights(name), Tensor.cpu)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():  # timm draws weights that are replaced
        warnings.simplefilter("ignore")
        plain = loading(backbone, classes.count)
        networks = []
        for weights in members_of(effective):
            networks.append(plain.make())
            plain.fill(networks[-1], of_classes(backbone, classes.count, plain_state(backbone, weights)))
    if backbone.mirrored:
        networks = [MirroredNetwork(one) for one in networks]
    net = VotingNetworks(networks, effective.shares) if isinstance(effective, Vote) else networks[0]
    images = probe_images(backbone.spec)[:_CHECKED]
    with torch.no_grad():
        expected = backbone.answering(classes.count)(effective, images)

    def exact() -> Tensor:
        return logits_in_float64(backbone, effective, classes.count, images)

    check_module(net, images, expected, exact)
    net.classes = tuple(map(classes.label, range(classes.count)))  # type: ignore[assignment]
    return net.to(loaded.basis.device)
