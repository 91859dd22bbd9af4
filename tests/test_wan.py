"""The `base` family against the public classes of diffusers, at small random sizes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from duovsr_vs.errors import FormatError, ModelError, OptionError
from duovsr_vs.model.wan.autoencoder import WanAutoencoder
from duovsr_vs.model.wan.config import BASE, LATENT_CHANNELS, AutoencoderConfig, TransformerConfig
from duovsr_vs.model.wan.fast import FastTransformer
from duovsr_vs.model.wan.keys import to_diffusers
from duovsr_vs.model.wan.transformer import WanTransformer
from duovsr_vs.model.wan.windows import gather, layout, scatter

pytestmark = pytest.mark.usefixtures("one_torch_thread")
SMALL = TransformerConfig(width=48, heads=2, blocks=2, inner=64, text_width=20, text_length=12)


def random_weights(model: nn.Module, seed: int = 0) -> None:
    torch.manual_seed(seed)
    for name, weight in model.named_parameters():
        with torch.no_grad():
            weight.copy_(1 + 0.2 * torch.randn_like(weight) if "gamma" in name or ("norm" in name and "weight" in name)
                         else torch.randn_like(weight) * (1.5 / max(weight[0].numel(), 1)) ** 0.5)  # fmt: skip


@pytest.fixture(scope="module")
def autoencoder() -> WanAutoencoder:
    model = WanAutoencoder(AutoencoderConfig(width=8)).eval()
    random_weights(model)
    return model


# -- sizes ----------------------------------------------------------------------------------------------------------


def test_full_sizes_have_the_published_numbers_of_parameters() -> None:
    with torch.device("meta"):
        transformer, autoencoder = WanTransformer(TransformerConfig()), WanAutoencoder(AutoencoderConfig())
    assert sum(p.numel() for p in transformer.parameters()) == 1_418_996_800
    assert len(list(transformer.parameters())) == 825
    assert sum(p.numel() for p in autoencoder.parameters()) == 126_892_531
    assert len(list(autoencoder.parameters())) == 194
    assert sum(p.numel() for p in autoencoder.decoder.parameters()) > 73_000_000


def test_the_lr_latent_changes_nothing_at_first_and_learns_from_the_first_step() -> None:
    torch.manual_seed(0)
    plain = WanTransformer(SMALL)
    beside = WanTransformer(TransformerConfig(**{**_values(SMALL), "condition_channels": LATENT_CHANNELS}))
    weights = plain.state_dict()
    weights["patch_embedding.weight"] = torch.cat(
        (weights["patch_embedding.weight"], torch.zeros_like(weights["patch_embedding.weight"])), 1
    )
    beside.load_state_dict(weights)
    z, t, text = torch.randn(1, 16, 2, 4, 6), torch.tensor([0.7]), torch.randn(1, 5, 20)
    out = beside(z, t, beside.tokens_of(text), torch.randn_like(z))
    assert torch.allclose(out, plain(z, t, plain.tokens_of(text)), atol=1e-6)
    out.square().mean().backward()
    gradient = beside.patch_embedding.weight.grad
    assert gradient is not None and float(gradient[:, LATENT_CHANNELS:].abs().max()) > 0


def _values(config: TransformerConfig) -> dict[str, int]:
    return {name: getattr(config, name) for name in config.__dataclass_fields__}


# -- against diffusers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t, bound", [(0.002, 1e-5), (1.0, 1e-4)])
def test_the_transformer_is_that_of_diffusers(t: float, bound: float) -> None:
    diffusers = pytest.importorskip("diffusers")
    ours = WanTransformer(SMALL).eval()
    random_weights(ours)
    theirs = diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=24, in_channels=16, out_channels=16,
        text_dim=20, freq_dim=256, ffn_dim=64, num_layers=2, cross_attn_norm=True, qk_norm="rms_norm_across_heads",
    ).eval()  # fmt: skip
    theirs.load_state_dict({to_diffusers(name): tensor for name, tensor in ours.state_dict().items()})
    z, text = torch.randn(2, 16, 3, 6, 8), torch.randn(2, 12, 20)
    with torch.no_grad():
        expected = theirs(z, torch.full((2,), 1000 * t), text, return_dict=False)[0]
        found = ours(z, torch.full((2,), t), ours.tokens_of(text))
    assert float((found - expected).abs().max()) < bound * max(1.0, float(expected.abs().max()))


def test_the_autoencoder_is_that_of_diffusers(autoencoder: WanAutoencoder) -> None:
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.AutoencoderKLWan(base_dim=8).eval()
    theirs.load_state_dict({to_diffusers(name): w for name, w in autoencoder.state_dict().items()})
    frames = torch.rand(1, 3, 9, 16, 24) * 2 - 1
    with torch.no_grad():
        latents = autoencoder.encode(frames)
        mean = theirs.encode(frames).latent_dist.mode()
        raw = latents * autoencoder.std + autoencoder.mean
        assert float((raw - mean).abs().max()) < 1e-5 * max(1.0, float(mean.abs().max()))
        expected = theirs.decode(raw, return_dict=False)[0]
        found = autoencoder.decode(latents).clamp(-1, 1)
    assert float((found - expected).abs().max()) < 1e-5


# -- in parts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [2, 3, 4])
def test_latents_may_be_decoded_several_at_a_time(autoencoder: WanAutoencoder, at_once: int) -> None:
    latents = torch.randn(1, 16, 5, 2, 3)
    with torch.no_grad():
        found, expected = autoencoder.decode(latents, at_once), autoencoder.decode(latents)
    assert found.shape == (1, 3, 17, 16, 24)
    assert float((found - expected).abs().max()) < 1e-5 * max(1.0, float(expected.abs().max()))


def test_a_latent_never_reaches_frames_before_it(autoencoder: WanAutoencoder) -> None:
    latents = torch.randn(1, 16, 4, 2, 2)
    changed = latents.clone()
    changed[:, :, 2] += 1
    with torch.no_grad():
        before, after = autoencoder.decode(latents), autoencoder.decode(changed)
    assert torch.equal(before[:, :, :5], after[:, :, :5])
    assert not torch.equal(before[:, :, 5], after[:, :, 5])


@pytest.mark.parametrize("shape", [(4, 16, 16), (5, 12, 16), (5, 16, 20)])
def test_other_lengths_and_sizes_are_refused_in_words(autoencoder: WanAutoencoder, shape: tuple[int, ...]) -> None:
    with pytest.raises(FormatError, match=r"4n \+ 1 frames with sides that are multiples of 8 are needed"):
        autoencoder.encode(torch.zeros(1, 3, *shape))


# -- windows --------------------------------------------------------------------------------------------------------


def masked(model: WanTransformer, z: Tensor, t: Tensor, context: Tensor, side: int) -> Tensor:
    """The same network with attention over all tokens and a mask that says who lies in whose window."""
    frames, height, width = z.shape[2], z.shape[3] // 2, z.shape[4] // 2
    masks = []
    for shifted in (False, True):
        windows = layout(frames, height, width, side, shifted)
        count = windows.tokens.shape[1]
        mask = torch.zeros(frames * height * width, frames * height * width, dtype=torch.bool)
        for token, place in enumerate(windows.owner.tolist()):
            mask[token, windows.tokens[place // count]] = True
        masks.append(mask)
    full = WanTransformer(TransformerConfig(**{**_values(model.config), "attention_window": 0})).eval()
    full.load_state_dict(model.state_dict())
    plain, calls = torch.nn.functional.scaled_dot_product_attention, []

    def with_mask(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if q.shape[2] != k.shape[2]:
            return plain(q, k, v)
        calls.append(0)
        return plain(q, k, v, masks[(len(calls) - 1) % 2])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("duovsr_vs.model.wan.transformer.F.scaled_dot_product_attention", with_mask)
        return full(z, t, context)


@pytest.mark.parametrize("height, width", [(16, 16), (20, 12), (14, 22), (8, 30)])
def test_gathered_windows_are_attention_under_a_mask(height: int, width: int) -> None:
    model = WanTransformer(TransformerConfig(**{**_values(SMALL), "attention_window": 4})).eval()
    random_weights(model)
    z, t, context = torch.randn(2, 16, 2, height, width), torch.tensor([0.3, 1.0]), torch.randn(2, 7, 48)
    with torch.no_grad():
        found, expected = model(z, t, context), masked(model, z, t, context, 4)
    assert float((found - expected).abs().max()) < 2e-5 * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("height, width", [(8, 8), (9, 4), (7, 11), (3, 13)])
def test_every_token_belongs_to_one_window(height: int, width: int, shifted: bool) -> None:
    windows = layout(2, height, width, 4, shifted)
    x = torch.arange(2 * height * width, dtype=torch.float32)[None, :, None]
    assert torch.equal(scatter(gather(x, windows), windows, 1), x)


def test_what_is_parted_in_one_block_meets_in_the_next() -> None:
    even, odd = layout(1, 8, 8, 4, False), layout(1, 8, 8, 4, True)

    def together(windows: object, a: int, b: int) -> bool:
        return any({a, b} <= set(row) for row in windows.tokens.tolist())  # type: ignore[attr-defined]

    assert not together(even, 3, 4) and together(odd, 3, 4)


def test_a_config_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ModelError, match="attention_window=3, which is out of range"):
        TransformerConfig(attention_window=3)
    assert BASE.condition_channels == LATENT_CHANNELS


def test_learned_tokens_and_those_for_no_text_differ() -> None:
    model = WanTransformer(TransformerConfig(**{**_values(SMALL), "context_tokens": 4}))
    assert model.learned_context(2).shape == (2, 4, 48)
    assert not torch.equal(model.learned_context(1), model.learned_context(1, null=True))


# -- the fast path --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [0, 4])
@pytest.mark.parametrize("dtype, bound", [(torch.float32, 1e-5), (torch.bfloat16, 0.03)])
def test_the_folded_transformer_is_the_slow_one(window: int, dtype: torch.dtype, bound: float) -> None:
    config = TransformerConfig(
        **{**_values(SMALL), "attention_window": window, "condition_channels": 16, "context_tokens": 5}
    )
    slow = WanTransformer(config).eval()
    random_weights(slow)
    context = slow.learned_context(1).detach()
    z, lr = torch.randn(2, 2, 16, 2, 12, 20).unbind(0)
    with torch.no_grad():
        exact = slow(z, torch.ones(2), context.expand(2, -1, -1), lr)
    slow = slow.to(dtype)
    fast = FastTransformer(slow, context)
    with torch.no_grad():
        found = fast(z.to(dtype), torch.ones(2), None, lr.to(dtype)).float()
    assert float((found - exact).abs().mean()) < bound * float(exact.abs().mean())


def test_the_folded_transformer_refuses_other_times() -> None:
    fast = FastTransformer(WanTransformer(SMALL).eval(), torch.zeros(1, 4, 48))
    with pytest.raises(OptionError, match=r"t=0\.5: the model was prepared for t=1"):
        fast(torch.zeros(1, 16, 1, 4, 4), torch.tensor([0.5]))
