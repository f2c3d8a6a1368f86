"""What a new network makes of a few images: pixels that no logit depends on, layers that no gradient reaches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from impress_format.errors import UsageError
from impress_format.records.network import BackboneSpec
from impress_learn.jobs import create_bank
from impress_learn.network.backbone import Backbone, bind
from impress_learn.network.build import build_backbone
from impress_learn.network.parameters import drawn_layers, rules_of
from impress_learn.network.trial import try_network
from impress_learn.plan.asked import Masks, Network
from impress_learn.progress import Progress


def tried(module: nn.Module, side: int) -> Backbone:
    """A network of one's own as a backbone, with the weights that it has."""
    module.eval().requires_grad_(False)
    layers = drawn_layers(
        module, rules_of(module), constants={name for name, _ in module.named_parameters() if "bias" in name}
    )
    spec = BackboneSpec(
        arch="mine", init="signed-constant", seed=0, input_shape=(1, side, side), classes=4, layers=layers,
        digest="0" * 64,
    )  # fmt: skip
    return bind(spec, module)


def build(arch: str, side: int, remarks: list[str] | None = None) -> Backbone:
    return build_backbone(
        arch,
        init="signed-constant",
        seed=0,
        input_shape=(1, side, side),
        classes=10,
        remark=([] if remarks is None else remarks).append,
    )


class Pooled(nn.Module):
    """Convolutions and the mean over what they leave."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        pooled: Tensor = self.layers(images).mean((2, 3))
        return pooled


def test_patches_that_do_not_fill_the_image_cut_off_its_last_rows_and_columns() -> None:
    trial = try_network(tried(Pooled(nn.Conv2d(1, 4, 7, stride=7)), 32))
    expected = torch.zeros(32, 32, dtype=torch.bool)
    expected[:28, :28] = True
    assert torch.equal(trial.seen, expected)
    assert trial.cut_off == (0, 4, 0, 4)
    assert trial.share == 28 * 28 / (32 * 32)


def test_every_second_pixel_is_no_strip_at_the_border() -> None:
    trial = try_network(tried(Pooled(nn.Conv2d(1, 4, 1, stride=2)), 8))
    assert trial.share == 0.25
    assert trial.cut_off == (0, 1, 0, 1)
    assert bool(trial.seen[::2, ::2].all())


def test_pixels_that_no_gradient_shows_are_seen_if_a_logit_changes_with_them() -> None:
    class Rounded(nn.Module):
        """Rounding has no slope, and passes on what it was given."""

        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(64, 4, bias=False)

        def forward(self, images: Tensor) -> Tensor:
            left, right = images.flatten(2).split([32, 32], dim=2)
            logits: Tensor = self.fc(torch.cat([left, (right * 8).round()], dim=2)[:, 0])
            return logits

    assert try_network(tried(Rounded(), 8)).share == 1.0


def test_units_that_are_dead_for_some_images_cut_off_nothing() -> None:
    """Each pixel has a unit of its own behind a ReLU that half of all images leave at zero."""
    network = Pooled(nn.Conv2d(1, 4, 1, bias=False), nn.ReLU())
    with torch.no_grad():
        network.get_parameter("layers.0.weight").fill_(1.0)
    assert try_network(tried(network, 16)).share == 1.0


def test_layers_that_get_no_gradient_are_named() -> None:
    class Shut(nn.Module):
        """A branch that a norm over one channel makes zero, whatever it computes."""

        def __init__(self) -> None:
            super().__init__()
            self.branch = nn.Linear(64, 1, bias=False)
            self.norm = nn.LayerNorm(1, elementwise_affine=False)
            self.head = nn.Linear(64, 4, bias=False)

        def forward(self, images: Tensor) -> Tensor:
            flat = images.flatten(1)
            logits: Tensor = self.head(flat + self.norm(self.branch(flat)))
            return logits

    assert try_network(tried(Shut(), 8)).idle == ("branch.weight",)


@pytest.mark.parametrize(
    ("arch", "side"),
    [
        ("timm:resnet18", 28),  # its downsampling skips three pixels of four, its other branch none
        ("timm:pvt_v2_b0", 96),  # its patches overlap
        ("timm:inception_v3", 75),
        ("resnet-18-nf8", 33),
        ("lenet-300-100", 28),
    ],
)
def test_networks_that_see_all_of_the_image_are_built_without_a_remark(arch: str, side: int) -> None:
    remarks: list[str] = []
    trial = try_network(build(arch, side, remarks))
    assert (trial.share, trial.idle, remarks) == (1.0, (), [])


@pytest.mark.parametrize(
    ("arch", "side", "kept"),
    [
        ("timm:resmlp_12_224", 28, 16),
        ("timm:gmixer_12_224", 28, 16),
        ("timm:tnt_s_legacy_patch16_224", 28, 16),
        ("timm:convmixer_768_32", 32, 28),
        ("timm:vit_tiny_patch16_224", 28, 16),
    ],
)
def test_network_that_cuts_off_a_strip_is_refused_with_a_size_that_fits(arch: str, side: int, kept: int) -> None:
    with pytest.raises(UsageError, match=rf"{kept} × {kept} of {side} × {side} pixels.*\n.*`image_size` {kept}, or a"):
        build(arch, side)
    build(arch, kept)


def test_what_a_stem_without_padding_leaves_out_is_said() -> None:
    remarks: list[str] = []
    build("timm:inception_v3", 96, remarks)
    (said,) = remarks
    assert "does not see the whole image: 93 × 93 of 96 × 96 pixels, 93.8% of all" in said


def test_a_bank_of_a_network_with_idle_layers_says_how_many(tmp_path: Path) -> None:
    remarks: list[str] = []
    create_bank(
        tmp_path / "b.impress",
        ["rotated-digits/0"],
        network=Network(backbone="timm:csatv2", image_size=64, image_mode="RGB"),
        masks=Masks(masks_per_task=0, random_masks=1),
        progress=Progress(remark=remarks.append),
    )
    assert any("56 of the 139 layers of timm:csatv2 get no gradient (stages.0.0.attn" in said for said in remarks)


@pytest.mark.parametrize(
    ("arch", "side", "words"),
    [
        (
            "nest_tiny",
            100,
            r"doesn't match model \(224\)\.\nIt takes images of shape \(1, 224, 224\): give `image_size` 224",
        ),
        ("halonet26t", 100, r"block_size.* fails\.\nIt takes images of shape \(1, 256, 256\): give `image_size` 256"),
        ("csatv2", 128, r"is invalid for input .*\.\nIt takes images of shape \(3, 128, 128\): give `image_mode` RGB"),
    ],
)
def test_network_that_cannot_run_at_a_size_says_what_it_takes(arch: str, side: int, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build(f"timm:{arch}", side)
