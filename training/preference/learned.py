"""A learned member of the ranking: a small network that knows which of two pictures was spoilt more (RankIQA).

After arXiv 1707.08347: nobody has to judge pictures, since the order of strengths of one spoiling is known. Trained on
the run's own clips before the first pairs, it has never seen a candidate.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from duovsr_vs.metrics.colour import Clip
from training.batch import random_source
from training.checkpoints import read_facts, read_tensors, write_tensors
from training.data.arrays import U8, generator
from training.data.dataset import PackedClips
from training.recipes import Recipe

LEVELS = 4
"""Versions of a picture, each spoilt more than the one before; the first is not spoilt at all."""
PICTURES = 4
"""Pictures of an update."""
PATCH = 24
"""Side of a picture in LR pixels, at most."""
MARGIN = 1.0
"""By how much a score must be above that of the version that is spoilt more."""
RATE = 1e-3
RECENT = 50
"""Updates over which the share of pairs in the right order is taken, each before it is learned from."""
SPOILINGS = ("blur", "noise", "jpeg", "shrink", "sharpen", "base")


class Ranker(nn.Module):
    """(b 3 h w) in [0, 1] -> (b,), more is better; of any size from 32 pixels on."""

    def __init__(self, channels: Sequence[int] = (16, 24, 32), hidden: int = 32):
        super().__init__()
        ends = list(zip([3, *channels[:-1]], channels, strict=True))
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 5, stride=2, padding=2) for a, b in ends)
        self.hidden, self.out = nn.Linear(2 * sum(channels), hidden), nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        x, pooled = x - 0.5, []
        for layer in self.layers:
            x = F.relu(layer(x))
            pooled += [x.mean((2, 3)), x.std((2, 3))]
        # Logarithms, so that what counts is how much of one detail there is in terms of another.
        scores: Tensor = self.out(F.relu(self.hidden((torch.cat(pooled, 1) + 1e-3).log()))).squeeze(1)
        return scores

    @torch.no_grad()
    def scores(self, clips: Sequence[Clip]) -> list[float]:
        """Mean score of the frames of each clip (t h w 3) uint8."""
        return [float(self(as_pictures(clip).to(self.out.weight.device)).mean()) for clip in clips]


def as_pictures(frames: U8) -> Tensor:
    """(n h w 3) uint8 -> (n 3 h w) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2))).float() / 255


def spoil(picture: U8, base: U8, how: str, strength: float, noise: Any) -> U8:
    """picture, base (h w 3): the truth, and its LR enlarged; strength from 0 to 1; noise (h w 3), standard normal."""
    h, w = picture.shape[:2]
    x: Any = picture.astype(np.float32)
    if how == "jpeg":
        _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, round(92 - 77 * strength)])
        x = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1]
    elif how == "blur":
        x = cv2.GaussianBlur(x, (0, 0), 0.3 + 2.2 * strength)
    elif how == "noise":
        x = x + (2 + 25 * strength) * noise
    elif how == "shrink":
        small = [max(8, round(n / (1 + 3 * strength))) for n in (w, h)]
        x = cv2.resize(cv2.resize(x, small, interpolation=cv2.INTER_AREA), (w, h), interpolation=cv2.INTER_CUBIC)
    elif how == "sharpen":
        x = x + 3 * strength * (x - cv2.GaussianBlur(x, (0, 0), 1.2))
    else:
        x = x + strength * (base - x)
    spoilt: U8 = np.clip(np.round(x), 0, 255).astype(np.uint8)
    return spoilt


def ladder(picture: U8, lr: U8, rng: np.random.Generator) -> U8:
    """LEVELS versions of a picture (h w 3), the best first; half of the time even that is a little spoilt."""
    base = np.asarray(cv2.resize(lr, picture.shape[1::-1], interpolation=cv2.INTER_CUBIC), np.uint8)
    noise = rng.standard_normal(picture.shape, np.float32)
    first = spoil(picture, base, "base", float(rng.uniform(0, 0.6)), noise) if rng.random() < 0.5 else picture
    how = SPOILINGS[int(rng.integers(len(SPOILINGS)))]
    steps = (np.arange(LEVELS - 1) + rng.uniform(0.2, 0.8, LEVELS - 1)) / (LEVELS - 1)
    return np.stack([first, *(spoil(first, base, how, float(s), noise) for s in steps)])


def ladders(clips: PackedClips, recipe: Recipe, update: int) -> Tensor:
    """(PICTURES LEVELS 3 h w) of one update, a function of the seed and its number."""
    stream = random_source(recipe.seed, "preference", "ranker").initial_seed()
    patch = min(PATCH, recipe.preference.patch)
    arrays = clips.batch(
        stream, 0, PICTURES, patch, kinds=recipe.lr_kinds, video_share=recipe.video_share, first_slot=PICTURES * update
    )
    rng = generator(recipe.seed, "ranker", update)
    pictures = [ladder(hr[0], lr[1], rng) for hr, lr in zip(arrays["hr"], arrays["lr"], strict=True)]
    return torch.stack([as_pictures(versions) for versions in pictures])


def ranking_loss(scores: Tensor) -> tuple[Tensor, float]:
    """⟨max(0, MARGIN + s_worse − s_better)⟩ over pairs of versions of one picture, and the share in the right order.

    scores: (pictures levels), the best version first.
    """
    better, worse = torch.triu_indices(scores.shape[1], scores.shape[1], 1)
    gap = scores[:, better] - scores[:, worse]
    return F.relu(MARGIN - gap).mean(), float((gap > 0).float().mean())


def train_ranker(clips: PackedClips, recipe: Recipe, device: torch.device) -> tuple[Ranker, float]:
    """The ranker, and the share of pairs that it told apart at the end before it had learned from them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        ranker = Ranker().to(device)
    optimizer = torch.optim.AdamW(ranker.parameters(), RATE)
    right: list[float] = []
    for update in range(recipe.preference.ranker_updates):
        pictures = ladders(clips, recipe, update).to(device)
        loss, share = ranking_loss(ranker(pictures.flatten(0, 1)).reshape(pictures.shape[:2]))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        right.append(share)
    return ranker.requires_grad_(False), float(np.mean(right[-RECENT:]))


def ranker_of(path: Path, clips: PackedClips, recipe: Recipe, mark: str, device: torch.device) -> Ranker:
    """The ranker of a run: read from its file, trained and written first if that is not there or another run's."""
    if not path.is_file() or read_facts(path).get("run") != mark:
        ranker, right = train_ranker(clips, recipe, device)
        write_tensors(path, ranker.state_dict(), {"run": mark, "right": f"{right:.3f}"})
    ranker = Ranker().to(device).requires_grad_(False)
    ranker.load_state_dict(read_tensors(path))
    return ranker
