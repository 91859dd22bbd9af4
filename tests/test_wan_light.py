"""The light autoencoder pair of `base-fast`."""

from __future__ import annotations

import pytest
import torch

from duovsr_vs.errors import FormatError
from duovsr_vs.model.wan.light import LightConfig, LightDecoder, LightEncoder, grouped

pytestmark = pytest.mark.usefixtures("one_torch_thread")
SMALL = LightConfig(encoder_width=16, encoder_blocks=2, decoder_widths=(16, 12, 8), decoder_blocks=(1, 2, 1))


@pytest.fixture(scope="module")
def decoder() -> LightDecoder:
    torch.manual_seed(0)
    return LightDecoder(SMALL).eval()


def lr_frames(count: int = 9) -> torch.Tensor:
    return torch.rand(1, 3, count, 8, 12, generator=torch.Generator().manual_seed(1))


def latents(count: int = 3) -> torch.Tensor:
    return torch.randn(1, 16, count, 4, 6, generator=torch.Generator().manual_seed(2))


def test_shapes_are_those_of_the_large_autoencoder(decoder: LightDecoder) -> None:
    assert LightEncoder(SMALL)(lr_frames()).shape == (1, 16, 3, 4, 6)
    assert decoder(latents(), lr_frames()).shape == (1, 3, 9, 32, 48)
    assert decoder(latents(1), lr_frames(1)).shape == (1, 3, 1, 32, 48)


@pytest.mark.parametrize("at_once", [1, 2])
def test_parts_change_nothing(decoder: LightDecoder, at_once: int) -> None:
    with torch.no_grad():
        whole = decoder(latents(), lr_frames())
        parts = torch.cat(list(decoder.decoded(latents(), lr_frames(), at_once)), 2)
    assert float((whole - parts).abs().max()) < 1e-5


def test_nothing_reaches_the_frames_before_it(decoder: LightDecoder) -> None:
    changed = lr_frames()
    changed[:, :, 5:] += 0.5
    with torch.no_grad():
        before, after = decoder(latents(), lr_frames()), decoder(latents(), changed)
    assert torch.equal(before[:, :, :5], after[:, :, :5])
    assert not torch.equal(before[:, :, 5], after[:, :, 5])


def test_the_decoder_sees_both_latents_and_lr(decoder: LightDecoder) -> None:
    with torch.no_grad():
        frames = decoder(latents(), lr_frames())
        assert not torch.equal(frames, decoder(latents() + 1, lr_frames()))
        assert not torch.equal(frames, decoder(latents(), lr_frames() + 0.1))


def test_frames_of_a_latent_are_grouped_in_their_order() -> None:
    lr = torch.arange(5.0)[None, None, :, None, None].expand(1, 3, 5, 2, 2)
    seen = grouped(lr)[0, :, :, 0, 0].unflatten(1, (4, 12))[..., 0]
    assert seen.tolist() == [[0, 0, 0, 0], [1, 2, 3, 4]]


def test_other_lengths_and_odd_sides_are_refused_in_words() -> None:
    for shape in ((8, 8, 12), (9, 7, 12), (9, 8, 11)):
        with pytest.raises(FormatError, match=r"4n \+ 1 frames with sides that are multiples of 2 are needed"):
            grouped(torch.zeros(1, 3, *shape))


def test_the_pair_learns_what_it_is_shown() -> None:
    """A few steps towards frames that are the LR enlarged: the error falls to a third."""
    torch.manual_seed(0)
    decoder = LightDecoder(SMALL)
    wanted = (
        torch.nn.functional.interpolate(lr_frames()[0].transpose(0, 1), scale_factor=4).transpose(0, 1)[None] * 2 - 1
    )
    optimizer = torch.optim.Adam(decoder.parameters(), 3e-3)
    errors = []
    for _ in range(60):
        error = (decoder(latents(), lr_frames()) - wanted).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(float(error.detach()))
    assert errors[-1] < errors[0] / 3
