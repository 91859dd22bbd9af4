"""Counted FLOPs and bytes are those of PyTorch's own counter, and of sums by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import roofline  # type: ignore[import-not-found]
from traffic import Cost, counted  # type: ignore[import-not-found]

from duovsr_vs.model.family import PRESETS
from duovsr_vs.model.wan.autoencoder import WanAutoencoder
from duovsr_vs.model.wan.config import AutoencoderConfig, TransformerConfig
from duovsr_vs.model.wan.transformer import WanTransformer


def test_a_product_is_counted_by_hand() -> None:
    a, b = torch.rand(3, 5), torch.rand(5, 7)
    cost, _ = counted(lambda: a @ b)
    assert cost.flops == 2 * 3 * 5 * 7
    assert cost.bytes == 4 * (15 + 35 + 21)


def test_what_is_written_where_it_belongs_is_counted_once() -> None:
    x, into = torch.rand(4, 6), torch.empty(4, 6)
    assert counted(lambda: torch.exp(x, out=into))[0].bytes == 4 * 48


def test_views_cost_nothing() -> None:
    x = torch.rand(4, 6)
    assert counted(lambda: x.view(6, 4).transpose(0, 1)[1:])[0] == Cost()


@pytest.mark.parametrize("window", [0, 4])
def test_flops_of_the_transformer_are_those_of_torchs_counter(window: int) -> None:
    config = TransformerConfig(width=48, heads=2, blocks=2, inner=64, text_width=20, attention_window=window)
    with torch.device("meta"):
        model = WanTransformer(config)
        z, text = torch.empty(1, 16, 2, 20, 28), torch.empty(1, 9, 48)

    def work() -> torch.Tensor:
        out: torch.Tensor = model(z, torch.ones(1, device="meta"), text)
        return out

    with torch.no_grad(), FlopCounterMode(display=False) as theirs:
        work()
    assert counted(work)[0].flops == pytest.approx(theirs.get_total_flops(), rel=0.02)


def test_flops_of_the_autoencoder_are_those_of_torchs_counter() -> None:
    with torch.device("meta"):
        model = WanAutoencoder(AutoencoderConfig(width=8))
        frames, latents = torch.empty(1, 3, 9, 32, 48), torch.empty(1, 16, 3, 4, 6)
    for work in (lambda: model.encode(frames), lambda: model.decode(latents)):
        with torch.no_grad(), FlopCounterMode(display=False) as theirs:
            work()
        assert counted(work)[0].flops == pytest.approx(theirs.get_total_flops(), rel=0.02)


def test_attention_moves_its_inputs_and_its_output_only() -> None:
    q = torch.rand(1, 2, 50, 8)
    cost, out = counted(lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q))
    assert cost.flops == 4 * 2 * 50 * 50 * 8
    assert cost.bytes == 4 * 4 * q.numel() and out.shape == q.shape


def test_the_limit_is_the_slower_of_arithmetic_and_memory() -> None:
    assert Cost(flops=4e12, bytes=1e12).seconds(2, 4) == 2
    assert Cost(flops=1e12, bytes=8e12).seconds(2, 4) == 2


def test_published_costs_of_a_wan_window_at_1080p_come_out() -> None:
    """Encoding 233, windows of 16x16 tokens 141, decoding 385 TFLOP for 21 frames of 1088x1920."""
    config, _ = roofline.CONFIGS["base, slow path"]
    parts = roofline.parts_of(config, 1920, 1080)
    found = {name: cost.flops * config.stride / 1e12 for name, cost in parts.items()}
    assert found == {
        "encode": pytest.approx(233, rel=0.02),
        "transformer": pytest.approx(141, rel=0.02),
        "decode": pytest.approx(385, rel=0.02),
    }


def test_the_fast_path_computes_the_same_and_moves_less() -> None:
    config = PRESETS["base-tiny"]
    slow, fast = (roofline.parts_of(config, 256, 128, quick) for quick in (False, True))
    for name in slow:
        assert fast[name].flops == pytest.approx(slow[name].flops, rel=0.03)
        assert fast[name].bytes < slow[name].bytes


def test_a_fused_norm_moves_its_input_and_its_output_only() -> None:
    x, weight = torch.rand(5, 6), torch.ones(6)
    cost, out = counted(lambda: torch.nn.functional.rms_norm(x, (6,), weight, 1e-6))
    assert cost.bytes == 4 * (30 + 6 + 30) and out.shape == x.shape


def test_a_run_prints_every_part_and_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = tmp_path / "r.json"
    assert roofline.main(["--preset", "nano", "--size", "256x128", "--json", str(record)]) == 0
    printed = capsys.readouterr().out
    assert all(part in printed for part in ("condition", "network", "output frame", "fps at most"))
    assert record.is_file()


def test_a_size_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        roofline.main(["--size", "large"])
    assert "'large' is no size; give WxH" in capsys.readouterr().err
