"""The codec and its operators: what 24 of 48 coefficients keep, and the quick convolutions against the slow path."""

from __future__ import annotations

import pytest
import torch
from einops import rearrange
from torch import Tensor

from duovsr_vs.metrics.resample import resize
from duovsr_vs.model import codec
from duovsr_vs.model.config import CELL, COEFFICIENTS, LATENT_PER_PIXEL, SCALE
from duovsr_vs.model.resample import back_project, enlarge, shrink


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_the_basis_is_orthonormal_and_starts_with_the_mean() -> None:
    basis = codec.dct_basis().reshape(16, 16)
    torch.testing.assert_close(basis @ basis.T, torch.eye(16, dtype=torch.float64))
    torch.testing.assert_close(basis[0], torch.full((16,), 0.25, dtype=torch.float64))


def test_encoding_undoes_decoding() -> None:
    product = torch.einsum("kcyx,lcyx->kl", codec.encoding(), codec.decoding())
    torch.testing.assert_close(product, torch.eye(LATENT_PER_PIXEL, dtype=torch.float64))


def test_a_decoded_residual_is_encoded_to_the_same_coefficients() -> None:
    z = normal(2, COEFFICIENTS, 3, 5)
    residual = codec.decode_residual(z)
    assert residual.shape == (2, 3, SCALE * CELL * 3, SCALE * CELL * 5)
    torch.testing.assert_close(codec.encode_residual(residual), z)


def test_decode_of_encode_keeps_all_luma_and_drops_half() -> None:
    """It is a projection: luma comes back whole, of colour four coefficients of sixteen."""
    x = normal(1, 3, 16, 24)
    kept = codec.decode_residual(codec.encode_residual(x))
    torch.testing.assert_close(codec.luma(kept), codec.luma(x))
    torch.testing.assert_close(codec.decode_residual(codec.encode_residual(kept)), kept)
    grey = codec.luma(x).expand(-1, 3, -1, -1)
    torch.testing.assert_close(codec.decode_residual(codec.encode_residual(grey)), grey)
    share = float((kept - x).square().sum() / x.square().sum())
    assert 0.3 < share < 0.7


def test_smooth_colour_comes_back() -> None:
    blocks = normal(1, 3, 4, 6).repeat_interleave(SCALE, -1).repeat_interleave(SCALE, -2)
    torch.testing.assert_close(codec.decode_residual(codec.encode_residual(blocks)), blocks)


def test_the_latent_grid_is_a_rearrangement() -> None:
    x = normal(2, 5, 6, 8)
    cells = codec.to_latent_grid(x)
    assert cells.shape == (2, 20, 3, 4)
    assert torch.equal(codec.from_latent_grid(cells), x)
    assert float(cells[0, 5 * 3 + 2, 1, 2]) == float(x[0, 2, 3, 5]), "channels are ordered (dy dx c)"


# -- quick and slow ---------------------------------------------------------------------------------------------------


def test_cell_decoding_is_decode_residual() -> None:
    z = normal(2, COEFFICIENTS, 4, 3, dtype=torch.float32)
    cells = codec.fixed_convolution(z, codec.cell_decoding())
    quick = rearrange(cells, "b (y c x) h w -> b c (h y) (w x)", c=3, x=SCALE * CELL)
    torch.testing.assert_close(quick, codec.decode_residual(z), rtol=0, atol=1e-5)


def test_cell_shrink_is_the_shrunk_residual() -> None:
    """Inside; at the border the residual is taken as zero beyond the frame."""
    z = normal(1, COEFFICIENTS, 6, 7, dtype=torch.float32)
    z[..., [0, -1], :] = 0
    z[..., :, [0, -1]] = 0
    quick = codec.from_latent_grid(codec.fixed_convolution(z, codec.cell_shrink()))
    slow = shrink(codec.decode_residual(z))
    torch.testing.assert_close(quick, slow, rtol=0, atol=1e-5)


def test_cell_enlarge_is_the_encoded_enlargement() -> None:
    q = normal(1, 3, 12, 14, dtype=torch.float32)
    q[..., [0, 1, -2, -1], :] = 0
    q[..., :, [0, 1, -2, -1]] = 0
    quick = codec.fixed_convolution(codec.to_latent_grid(q), codec.cell_enlarge())
    torch.testing.assert_close(quick, codec.encode_residual(enlarge(q)), rtol=0, atol=1e-5)


# -- resampling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 9), (16, 8), (17, 31)])
def test_enlarge_is_bicubic(height: int, width: int) -> None:
    x = normal(3, height, width, dtype=torch.float32)
    wanted = resize(x.numpy().transpose(1, 2, 0), SCALE * height, SCALE * width)
    torch.testing.assert_close(enlarge(x), torch.from_numpy(wanted.transpose(2, 0, 1)), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(2, 3), (5, 9), (16, 8)])
def test_shrink_is_antialiased_bicubic(height: int, width: int) -> None:
    x = normal(3, SCALE * height, SCALE * width, dtype=torch.float32)
    wanted = resize(x.numpy().transpose(1, 2, 0), height, width)
    torch.testing.assert_close(shrink(x), torch.from_numpy(wanted.transpose(2, 0, 1).copy()), rtol=0, atol=1e-5)


def test_enlarge_takes_any_leading_axes() -> None:
    x = normal(2, 4, 3, 6, 7, dtype=torch.float32)
    assert torch.equal(enlarge(x)[1, 2], enlarge(x[1, 2]))


def test_flat_pictures_stay_flat() -> None:
    flat = torch.full((3, 9, 10), 0.7)
    for out in (enlarge(flat), shrink(flat.repeat(1, 4, 4)), back_project(flat, 2)[0]):
        torch.testing.assert_close(out, torch.full_like(out, 0.7))


@pytest.mark.parametrize("times", [0, 1, 2, 4])
def test_what_back_projection_reports_missing_is_missing(times: int) -> None:
    """lr − D·U·B, away from the border."""
    lr = normal(1, 3, 40, 44, dtype=torch.float32)
    base, missing = back_project(lr, times)
    edge = 3 * (times + 2)
    inside = (..., slice(edge, -edge), slice(edge, -edge))
    torch.testing.assert_close(missing[inside], (lr - shrink(enlarge(base)))[inside], rtol=0, atol=1e-5)
    if times:
        assert float(missing.abs().mean()) < float(back_project(lr, times - 1)[1].abs().mean())


# -- gain -------------------------------------------------------------------------------------------------------------


def test_the_gain_does_not_depend_on_brightness_and_grows_with_contrast() -> None:
    x = torch.rand(1, 3, 16, 20, generator=torch.Generator().manual_seed(0))
    gain = codec.local_gain(x * 0.5)
    assert gain.shape == (1, 1, 8, 10)
    torch.testing.assert_close(codec.local_gain(x * 0.5 + 0.4), gain, rtol=1e-3, atol=0)
    assert bool((codec.local_gain(x) > gain).all())


def test_the_gain_of_a_flat_picture_is_its_floor() -> None:
    gain = codec.local_gain(torch.full((1, 3, 8, 8), 0.5))
    torch.testing.assert_close(gain, torch.full_like(gain, 0.2 * (0.02**2) ** 0.4))


def test_box_mean_is_a_mean() -> None:
    x = normal(1, 1, 9, 9)
    torch.testing.assert_close(codec.box_mean(x, 2)[..., 4, 4], x[..., 2:7, 2:7].mean((-2, -1)))
