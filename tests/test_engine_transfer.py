"""What crosses a bus, and what samples become on the device: as the hosts' own conversions have it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import vapoursynth as vs
from torch import Tensor

from duovsr_vs.engine.kernels import attention_kernels, attention_name, order_for
from duovsr_vs.engine.pixels import Yuv, bytes_from_rgb, rgb_from_bytes
from duovsr_vs.engine.transfer import SideStream, downloaded, uploaded
from duovsr_vs.errors import FormatError

pytestmark = pytest.mark.usefixtures("one_torch_thread")
CPU = torch.device("cpu")
KINDS = [
    # format, sub_w, sub_h, bits, matrix, full, left
    (vs.YUV420P8, 1, 1, 8, 1, False, True),
    (vs.YUV420P8, 1, 1, 8, 6, True, False),
    (vs.YUV420P10, 1, 1, 10, 9, False, True),
    (vs.YUV422P8, 1, 0, 8, 1, False, True),
    (vs.YUV444P16, 0, 0, 16, 1, False, True),
    (vs.YUV411P8, 2, 0, 8, 5, False, True),
]
WIDTH, HEIGHT = 48, 32


def yuv(sub_w: int, sub_h: int, bits: int, matrix: int, full: bool, left: bool) -> Yuv:
    return Yuv(WIDTH, HEIGHT, CPU, sub_w=sub_w, sub_h=sub_h, bits=bits, matrix=matrix, full=full, left=left)


def converted(planes: list[np.ndarray], source: int, target: int, **arguments: int) -> list[np.ndarray]:
    """By VapourSynth's resize."""
    clip = vs.core.std.BlankClip(format=source, width=WIDTH, height=HEIGHT, length=1)

    def fill(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        out = f.copy()
        for number, plane in enumerate(planes):
            np.asarray(out[number])[:] = plane
        return out

    clip = clip.std.ModifyFrame(clip, fill)
    frame = clip.resize.Bicubic(format=target, **arguments).get_frame(0)
    return [np.asarray(frame[number]).copy() for number in range(3)]


def random_planes(sub_w: int, sub_h: int, bits: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    sizes = [(HEIGHT, WIDTH), *[(HEIGHT >> sub_h, WIDTH >> sub_w)] * 2]
    kind = np.uint8 if bits == 8 else np.uint16
    low, high = 30 << (bits - 8), 220 << (bits - 8)
    return [rng.integers(low, high, size).astype(kind) for size in sizes]


@pytest.mark.parametrize("kind, sub_w, sub_h, bits, matrix, full, left", KINDS)
def test_planes_become_the_rgb_that_zimg_makes(
    kind: int, sub_w: int, sub_h: int, bits: int, matrix: int, full: bool, left: bool
) -> None:
    """Within a twentieth of an 8-bit step."""
    planes = random_planes(sub_w, sub_h, bits)
    expected = np.stack(
        converted(planes, kind, vs.RGBS, matrix_in=matrix, range_in=int(full), chromaloc_in=int(not left))
    )
    found = yuv(sub_w, sub_h, bits, matrix, full, left).to_rgb(*(torch.from_numpy(plane) for plane in planes))
    assert found.shape == (3, HEIGHT, WIDTH)
    assert float(np.abs(found.numpy() - expected).max()) < 0.05 / 255


@pytest.mark.parametrize("kind, sub_w, sub_h, bits, matrix, full, left", KINDS)
def test_rgb_becomes_the_planes_that_zimg_makes(
    kind: int, sub_w: int, sub_h: int, bits: int, matrix: int, full: bool, left: bool
) -> None:
    """No sample is off by more than one step, and hardly any at all."""
    rgb = np.random.default_rng(1).random((3, HEIGHT, WIDTH), np.float32)
    expected = converted(list(rgb), vs.RGBS, kind, matrix=matrix, range=int(full), chromaloc=int(not left), matrix_in=0)
    found = yuv(sub_w, sub_h, bits, matrix, full, left).from_rgb(torch.from_numpy(rgb))
    for ours, theirs in zip(found, expected, strict=True):
        off = np.abs(ours.numpy().astype(int) - theirs.astype(int))
        assert ours.numpy().dtype == theirs.dtype and off.max() <= 1 and (off > 0).mean() < 0.01


def test_bytes_come_back_as_they_were() -> None:
    frame = torch.randint(0, 256, (10, 14, 3), dtype=torch.uint8)
    rgb = rgb_from_bytes(frame)
    assert rgb.shape == (3, 10, 14) and rgb.dtype == torch.float32 and float(rgb.max()) <= 1
    assert torch.equal(bytes_from_rgb(rgb), frame)
    assert bytes_from_rgb(torch.tensor([-0.5, 1.5, 0.5]).view(3, 1, 1)).flatten().tolist() == [0, 255, 128]


def test_other_matrices_and_sides_are_refused_in_words() -> None:
    with pytest.raises(FormatError, match="the matrix 8 is not converted on the device"):
        Yuv(16, 16, CPU, matrix=8)
    with pytest.raises(FormatError, match=r"frames of 15x16 .* the chroma planes must divide the frame"):
        Yuv(15, 16, CPU)


# -- streams ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 5])
@pytest.mark.parametrize("look", [0, 1, 3])
def test_frames_come_up_and_down_whole_and_in_order(count: int, look: int) -> None:
    film = [torch.full((2, 3), float(n)) for n in range(count)]
    there = list(uploaded(film, CPU, look))
    back = list(downloaded(iter(there), CPU, look))
    assert len(back) == count and all(torch.equal(a, b) for a, b in zip(back, film, strict=True))


def test_no_more_frames_are_held_than_asked_for() -> None:
    taken: list[int] = []

    def film() -> object:
        for n in range(10):
            taken.append(n)
            yield torch.zeros(1)

    next(uploaded(film(), CPU, 2))  # type: ignore[arg-type]
    assert taken == [0, 1, 2]


def test_work_on_a_side_stream_is_the_work() -> None:
    side = SideStream(CPU)
    pending = side.run(lambda a, b: (a + b, a * b), torch.tensor(2.0), torch.tensor(3.0))
    assert [float(x) for x in pending.result()] == [5, 6]
    assert pending.finished() is pending.result()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_streams_of_a_gpu_change_no_bit() -> None:
    device = torch.device("cuda:0")
    film = [torch.randn(3, 540, 960) for _ in range(12)]

    def worked(frames: object) -> object:
        return (frame.sin() @ frame.transpose(1, 2).cos() for frame in frames)  # type: ignore[attr-defined]

    plain = [x.cpu() for x in worked(frame.to(device) for frame in film)]  # type: ignore[attr-defined]
    beside = list(downloaded(worked(uploaded(film, device)), device))  # type: ignore[arg-type]
    assert all(torch.equal(a, b) for a, b in zip(plain, beside, strict=True))


# -- kernels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "capability, first",
    [((8, 0), "flash"), ((8, 9), "flash"), ((9, 0), "cudnn"), ((10, 0), "cudnn"), ((12, 0), "flash")],
)
def test_kernels_are_chosen_by_capability_and_always_end_somewhere(capability: tuple[int, int], first: str) -> None:
    order = order_for(capability)
    assert order[0] == first and order[-1] == "math" and len(set(order)) == 4


def test_on_a_cpu_torch_has_one_kernel() -> None:
    q: Tensor = torch.randn(1, 2, 8, 4)
    plain = torch.nn.functional.scaled_dot_product_attention(q, q, q)
    with attention_kernels(CPU):
        assert torch.equal(torch.nn.functional.scaled_dot_product_attention(q, q, q), plain)
    assert attention_name(CPU) == "cpu"
