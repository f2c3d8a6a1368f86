"""The built-in network."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def lenet_weights(inputs: int, classes: int) -> int:
    """How many weights the network has, without building it."""
    return 300 * inputs + 300 * 100 + 100 * classes


class LeNet300100(nn.Module):
    """784-300-100-C with ReLU and no bias (LeCun et al. 1998; 266,200 weights for C = 10)."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, 300, bias=False)
        self.fc2 = nn.Linear(300, 100, bias=False)
        self.fc3 = nn.Linear(100, classes, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        hidden = torch.relu(self.fc1(images.flatten(1)))
        logits: Tensor = self.fc3(torch.relu(self.fc2(hidden)))
        return logits
