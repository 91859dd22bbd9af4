"""SSIMULACRA2 orders degradations, passes frames in order, and says what is missing."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

from duovsr_vs.metrics.perceptual import ssimulacra2, ssimulacra2_frames

pytest.importorskip("vapoursynth")


def clip() -> np.ndarray:
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(3):
        noise = cv2.GaussianBlur(rng.normal(size=(96, 128, 3)).astype(np.float32), (0, 0), 3)
        frames.append(np.clip(128 + 45 * noise / noise.std(), 0, 255).astype(np.uint8))
    return np.stack(frames)


def test_equal_is_near_100_and_more_blur_is_worse():
    sharp = clip()
    scores = [ssimulacra2(sharp, np.stack([cv2.GaussianBlur(f, (0, 0), s) for f in sharp])) for s in (1.0, 2.0, 4.0)]
    assert ssimulacra2(sharp, sharp) > 99
    assert 99 > scores[0] > scores[1] > scores[2]


def test_each_frame_is_scored_by_its_own_partner():
    sharp = clip()
    mixed = sharp.copy()
    mixed[1] = cv2.GaussianBlur(sharp[1], (0, 0), 3)
    frames = ssimulacra2_frames(sharp, mixed)
    assert frames[0] > 99 and frames[2] > 99 and frames[1] < 80


def test_channels_are_not_swapped():
    sharp = clip()
    red, blue = sharp.astype(int), sharp.astype(int)
    red[..., 0] += 30
    blue[..., 2] += 30
    a, b = (ssimulacra2(sharp, x.clip(0, 255).astype(np.uint8)) for x in (red, blue))
    assert a < b  # an error in red is seen more than one in blue


def test_a_missing_plugin_is_one_sentence_and_is_met_only_when_asked():
    code = (
        "import sys; sys.modules['vapoursynth'] = None\n"
        "import numpy as np\n"
        "from duovsr_vs.errors import DuoVsrError\n"
        "from duovsr_vs.metrics import suite\n"
        "a = np.zeros((2, 96, 192, 3), np.uint8)\n"
        "facts = suite.GroundTruth.measure(a, ['psnr_y'])\n"
        "suite.score_clip(a, a[:, ::4, ::4], a, facts, ['psnr_y'])\n"
        "try: suite.score_clip(a, a[:, ::4, ::4], a, facts, ['ssimulacra2'])\n"
        "except DuoVsrError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("pip install vapoursynth-vszip")
    assert len(done.stdout.splitlines()) == 1
