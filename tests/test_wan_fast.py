"""What makes `base` fast changes nothing but rounding."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from duovsr_vs.errors import FormatError
from duovsr_vs.model.wan import fast_autoencoder
from duovsr_vs.model.wan.autoencoder import WanAutoencoder
from duovsr_vs.model.wan.blocks import Cache, CausalConv, Enlarge, Residual, Shrink
from duovsr_vs.model.wan.config import AutoencoderConfig, TransformerConfig
from duovsr_vs.model.wan.fast import FastTransformer
from duovsr_vs.model.wan.fast_autoencoder import FastAutoencoder, FlatConv, FlatEnlarge, FlatShrink, in_channels_last
from duovsr_vs.model.wan.transformer import WanTransformer

pytestmark = pytest.mark.usefixtures("one_torch_thread")
SMALL = TransformerConfig(
    width=48, heads=2, blocks=2, inner=64, text_width=20, text_length=12, frequencies=32, condition_channels=16,
    context_tokens=4, attention_window=4,
)  # fmt: skip


def random_weights(model: nn.Module) -> None:
    """Nothing is zero or one, and what goes in comes out in the same size."""
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        with torch.no_grad():
            if weight.ndim < 2 or "gamma" in name:
                weight.copy_(("gamma" in name or "norm" in name) + 0.2 * torch.randn_like(weight))
            else:
                weight.copy_(torch.randn_like(weight) * (1.5 / weight[0].numel()) ** 0.5)


def apart(found: Tensor, expected: Tensor) -> float:
    """Greatest difference over the greatest value."""
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.fixture(scope="module")
def slow() -> WanAutoencoder:
    model = WanAutoencoder(AutoencoderConfig(width=8)).eval().requires_grad_(False)
    random_weights(model)
    return model


@pytest.fixture(scope="module")
def transformer() -> WanTransformer:
    model = WanTransformer(SMALL).eval().requires_grad_(False)
    random_weights(model)
    return model


# -- the autoencoder --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize("band", [2**28, 5000])
@pytest.mark.parametrize("kernel, frames", [(3, 4), (3, 1), ((3, 1, 1), 4), (1, 3)])
def test_a_causal_convolution_is_one_of_pictures(
    kernel: int | tuple[int, int, int], frames: int, band: int, beside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bands of rows, too, and from one part of a clip to the next: within 7e-6 of the largest value."""
    monkeypatch.setattr(fast_autoencoder, "SEEN_AT_ONCE", band)
    torch.manual_seed(0)
    layer = CausalConv(6, 10, kernel).requires_grad_(False)
    flat, ours, theirs = FlatConv(layer, beside), Cache(), Cache()
    for _ in range(3):
        x = torch.randn(1, 6, frames, 12, 20)
        found = flat(x[0].transpose(0, 1).contiguous(memory_format=torch.channels_last), ours)
        assert apart(found, layer(x, theirs)[0].transpose(0, 1)) < 7e-6


def test_what_is_activated_on_the_way_is_what_was_activated_before() -> None:
    layer = CausalConv(6, 10, 3).requires_grad_(False)
    x = torch.randn(4, 6, 12, 20).contiguous(memory_format=torch.channels_last)
    for beside in (True, False):
        flat = FlatConv(layer, beside)
        ours, theirs = Cache(), Cache()
        for _ in range(2):
            found = flat(x, ours, activate=True)
            assert apart(found, flat(torch.nn.functional.silu(x), theirs)) < 1e-6


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize("time", [False, True])
def test_shrinking_and_enlarging_pictures_is_that_of_clips(time: bool, beside: bool) -> None:
    torch.manual_seed(0)
    for layer, flat in (
        (shrink := Shrink(6, time).requires_grad_(False), FlatShrink(shrink, beside)),
        (enlarge := Enlarge(6, time).requires_grad_(False), FlatEnlarge(enlarge, beside)),
    ):
        ours, theirs = Cache(), Cache()
        for frames in (1, 4, 4):
            x = torch.randn(1, 6, frames, 8, 12)
            found = flat(x[0].transpose(0, 1).contiguous(memory_format=torch.channels_last), ours)
            assert apart(found, layer(x, theirs)[0].transpose(0, 1)) < 7e-6


def test_encoding_by_pictures_is_that_of_clips(slow: WanAutoencoder) -> None:
    frames = torch.rand(1, 3, 9, 24, 40) * 2 - 1
    assert apart(FastAutoencoder(slow).encode(frames), slow.encode(frames)) < 2e-5


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize("at_once", [1, 2])
def test_decoding_by_pictures_is_that_of_clips(slow: WanAutoencoder, at_once: int, beside: bool) -> None:
    latents, fast = torch.randn(1, 16, 4, 3, 5), FastAutoencoder(slow, beside)
    found, expected = list(fast.decoded(latents, at_once)), list(slow.decoded(latents, at_once))
    assert [part.shape for part in found] == [part.shape for part in expected]
    assert apart(torch.cat(found, 2), torch.cat(expected, 2)) < 2e-5
    assert torch.equal(fast.decode(latents, at_once), torch.cat(found, 2))


def test_in_bfloat16_pictures_are_no_further_from_the_truth_than_clips(slow: WanAutoencoder) -> None:
    latents = torch.randn(1, 16, 3, 3, 5)
    exact = slow.decode(latents)
    half = WanAutoencoder(AutoencoderConfig(width=8)).eval().requires_grad_(False)
    half.load_state_dict(slow.state_dict())
    half = half.bfloat16()
    near = (FastAutoencoder(half).decode(latents.bfloat16()).float() - exact).square().mean()
    theirs = (half.decode(latents.bfloat16()).float() - exact).square().mean()
    assert float(near) < 1.2 * float(theirs) < 0.02 * float(exact.square().mean())


def test_channels_last_is_the_slow_path_in_another_order(slow: WanAutoencoder) -> None:
    last = in_channels_last(slow)
    assert last.decoder.conv1.weight.is_contiguous(memory_format=torch.channels_last_3d)
    frames, latents = torch.rand(1, 3, 5, 16, 24) * 2 - 1, torch.randn(1, 16, 2, 2, 3)
    beside = frames.contiguous(memory_format=torch.channels_last_3d)
    assert apart(last.encode(beside), slow.encode(frames)) < 2e-5
    assert apart(last.decode(latents), slow.decode(latents)) < 2e-5


def test_what_is_remembered_keeps_nothing_else_alive(slow: WanAutoencoder) -> None:
    """At 1080p the memory is 9.9 GB, and as large as the frames that a view of it would hold on to."""
    flat, cache = FlatConv(CausalConv(4, 4, 3).requires_grad_(False)), Cache()
    flat(torch.randn(4, 4, 8, 8).contiguous(memory_format=torch.channels_last), cache)
    (kept,) = cache.values()
    assert kept.shape[0] == 2
    assert kept.untyped_storage().nbytes() == kept.nbytes


def test_a_residual_block_leaves_its_input_alone() -> None:
    layer = Residual(6, 6).requires_grad_(False)
    x = torch.randn(2, 6, 8, 8).contiguous(memory_format=torch.channels_last)
    before = x.clone()
    fast_autoencoder.FlatResidual(layer, True)(x, Cache())
    assert torch.equal(x, before)


def test_several_clips_and_other_lengths_are_refused_in_words(slow: WanAutoencoder) -> None:
    fast = FastAutoencoder(slow)
    with pytest.raises(FormatError, match="2 clips at once; the fast autoencoder takes one"):
        fast.encode(torch.zeros(2, 3, 5, 16, 16))
    with pytest.raises(FormatError, match=r"4n \+ 1 frames with sides that are multiples of 8 are needed"):
        fast.encode(torch.zeros(1, 3, 4, 16, 16))


# -- the transformer --------------------------------------------------------------------------------------------------


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    z, lr = torch.randn(2, 1, 16, 2, 12, 20).unbind(0)
    return z, torch.ones(1), lr


@pytest.mark.parametrize("at_once", [0, 7, 60])
def test_tokens_may_be_fed_forward_some_after_the_others(transformer: WanTransformer, at_once: int) -> None:
    z, t, lr = inputs()
    context = transformer.learned_context(1)
    with torch.no_grad():
        expected = transformer(z, t, context, lr)
        found = FastTransformer(transformer, context, fed_at_once=at_once)(z, t, None, lr)
    assert apart(found, expected) < 1e-5


def test_another_size_after_the_first_has_places_of_its_own(transformer: WanTransformer) -> None:
    context = transformer.learned_context(1)
    fast = FastTransformer(transformer, context)
    with torch.no_grad():
        for shape in ((2, 12, 20), (1, 6, 4), (2, 12, 20)):
            z = torch.randn(1, 16, *shape)
            assert apart(fast(z, torch.ones(1), None, z), transformer(z, torch.ones(1), context, z)) < 1e-5


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("DUOVSR_COMPILE"), reason="compiling takes a minute; DUOVSR_COMPILE=1 runs it")
@pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")) or platform.system() != "Linux",
    reason="torch.compile needs a C++ compiler",
)
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled_blocks_are_the_plain_ones(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within 1e-5 of the largest value in float32; one kind of block, for compiling takes long."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))
    model = WanTransformer(replace(SMALL, blocks=1)).eval().requires_grad_(False)
    random_weights(model)
    z, t, lr = inputs()
    fast = FastTransformer(model, model.learned_context(1))
    with torch.no_grad():
        expected = fast(z, t, None, lr)
        fast.compile_blocks()
        found = fast(z, t, None, lr)
    torch.compiler.reset()
    assert apart(found, expected) < 1e-5
