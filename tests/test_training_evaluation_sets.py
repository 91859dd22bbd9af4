"""Sets are recognised by how they unpack, pairs are checked, and what does not fit is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from data_clips import picture, save_photo
from evaluation_files import packed, pairs, pictures, shrunk, truth, video

from duovsr_vs.errors import DuoVsrError, OptionError
from training.data.sources import DataError
from training.evaluation.sets import EvaluationSet, find

CLIP, LOW = truth(0), shrunk(truth(0))


def udm10(root: Path) -> None:
    for name in ("archpeople", "caffe"):
        pictures(root / "GT" / name, CLIP)
        pictures(root / "BIx4" / name, LOW)
        pictures(root / "BDx4" / name, LOW)
    (root / "meta_info_UDM10_GT.txt").write_text("archpeople 2\n")


def udm10_first_published(root: Path) -> None:
    for name in ("archpeople", "caffe"):
        pictures(root / name / "truth", CLIP)
        pictures(root / name / "blur4", LOW)


def spmcs(root: Path) -> None:
    for name in ("archpeople", "caffe"):
        pictures(root / name / "truth", CLIP)
        for scale in (2, 3, 4):
            pictures(root / name / f"input{scale}", LOW)


def frames_and_videos(root: Path) -> None:
    for name in ("archpeople", "caffe"):
        pictures(root / "GT" / name, CLIP)
        pictures(root / "LQ" / name, LOW)
        video(root / "GT-Video" / f"{name}.mkv", CLIP)
        video(root / "LQ-Video" / f"{name}.mkv", LOW)


def videos(root: Path) -> None:
    for name in ("archpeople", "caffe"):
        video(root / "GT" / f"{name}.mp4", CLIP)
        pictures(root / "LQ" / name, LOW)


def one_folder_more(root: Path) -> None:
    udm10(root / "UDM10")
    (root / "__MACOSX").mkdir()
    pictures(root / "__MACOSX" / "GT" / "ghost", CLIP)


def truth_alone(root: Path) -> None:
    for name in ("archpeople", "caffe"):
        video(root / "GT" / f"{name}.mp4", CLIP)


def originals(root: Path) -> None:
    for name in ("archpeople", "caffe"):
        video(root / f"{name}.mp4", CLIP)
    (root / "manifest.json").write_text("{}")


def lr_alone(root: Path) -> None:
    for name in ("archpeople", "caffe"):
        pictures(root / name, LOW, digits=8)


def lr_videos(root: Path) -> None:
    for name in ("archpeople", "caffe"):
        video(root / f"{name}.mp4", LOW)


def categories(root: Path) -> None:
    pictures(root / "archpeople", CLIP)
    pictures(root / "people" / "caffe", CLIP)


@pytest.mark.parametrize(
    "folder, build, given, has_truth",
    [
        ("UDM10", udm10, {"BIx4", "BDx4"}, True),
        ("UDM10", udm10_first_published, {"blur4"}, True),
        ("SPMCS", spmcs, {"input4"}, True),
        ("SPMCS", frames_and_videos, {"LQ"}, True),
        ("YouHQ40", videos, {"LQ"}, True),
        ("YouHQ40", truth_alone, set(), True),
        ("YouHQ40", categories, set(), True),
        ("downloads", one_folder_more, {"BIx4", "BDx4"}, True),
        ("films", originals, set(), True),
        ("VideoLQ", lr_alone, {"LR"}, False),
        ("VideoLQ/LQ", lr_alone, {"LR"}, False),
        ("AIGC60", lr_videos, {"LR"}, False),
    ],
)
def test_sets_are_recognised_as_they_unpack(
    tmp_path: Path, folder: str, build: Callable[[Path], None], given: set[str], has_truth: bool
) -> None:
    build(tmp_path / folder)
    found = find(tmp_path / folder)
    assert set(found.given) == given
    assert found.has_truth == has_truth
    assert [clip.name.rpartition("/")[2] for clip in found.clips] == ["archpeople", "caffe"]
    assert found.kinds(None) == (found.given or ("clean", "web", "real"))
    for clip in found.clips:
        gt = clip.read_truth(8)
        assert (gt is not None) == has_truth
        for kind in found.given:
            assert clip.read_lr(kind, 8, gt, 0).shape == LOW.shape
        if has_truth:
            assert clip.read_lr("clean", 8, gt, 0).shape == LOW.shape


def test_frames_are_those_of_the_files_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    clip = truth(3, 12)
    pairs(tmp_path / "UDM10", 1)
    for folder, frames in (("GT", clip), ("BIx4", shrunk(clip))):
        shutil.rmtree(tmp_path / "UDM10" / folder)
        pictures(tmp_path / "UDM10" / folder / "a", frames, digits=1)  # 10.png must follow 9.png
    found = find(tmp_path / "UDM10").clips[0]
    gt = found.read_truth(99)
    assert gt is not None and np.array_equal(gt, clip)
    assert np.array_equal(found.read_truth(11), clip[:11])
    assert np.array_equal(found.read_lr("BIx4", 11, clip[:11], 0), shrunk(clip)[:11])


def test_the_frames_of_a_set_win_over_its_videos(tmp_path: Path) -> None:
    frames_and_videos(tmp_path)
    assert np.array_equal(find(tmp_path).clips[0].read_truth(2), CLIP)


def test_the_rest_of_a_division_by_four_is_cut_off_the_truth(tmp_path: Path) -> None:
    wide = np.pad(CLIP, ((0, 0), (0, 3), (0, 1), (0, 0)), mode="edge")
    pictures(tmp_path / "GT" / "a", wide)
    pictures(tmp_path / "LQ" / "a", LOW)
    clip = find(tmp_path).clips[0]
    gt = clip.read_truth(2)
    assert gt is not None and np.array_equal(gt, CLIP)
    assert np.array_equal(clip.read_lr("LQ", 2, gt, 0), LOW)


def test_lr_that_is_made_depends_on_kind_name_and_seed_alone(tmp_path: Path) -> None:
    truth_alone(tmp_path)
    one, other = find(tmp_path).clips
    gt = one.read_truth(2)
    first = one.read_lr("real", 2, gt, 0)
    assert np.array_equal(first, one.read_lr("real", 2, gt, 0))
    assert not np.array_equal(first, one.read_lr("real", 2, gt, 1))
    assert not np.array_equal(first, other.read_lr("real", 2, gt, 0))
    assert not np.array_equal(first, one.read_lr("web", 2, gt, 0))
    (tmp_path / "GT" / "caffe.mp4").unlink()
    assert np.array_equal(first, find(tmp_path).clips[0].read_lr("real", 2, gt, 0))


def test_clips_that_no_name_tells_apart_are_what_the_option_says(tmp_path: Path) -> None:
    lr_alone(tmp_path / "mine")
    assert find(tmp_path / "mine", "lr").given == ("LR",)
    assert find(tmp_path / "mine", "truth").has_truth
    with pytest.raises(DataError, match="nothing says what these clips are; add --clips truth or --clips lr"):
        find(tmp_path / "mine")


def test_of_a_pack_the_held_out_clips_are_taken_with_their_own_lr(tmp_path: Path) -> None:
    found = find(packed(tmp_path))
    assert found.has_truth and found.given == ("clean", "web", "real")
    clip = found.clips[0]
    assert clip.group.startswith("film:")
    gt = clip.read_truth(2)
    assert gt is not None and clip.read_lr("web", 2, gt, 0).shape[1] * 4 == gt.shape[1]


def test_kinds_are_chosen_among_those_of_the_set_and_those_that_can_be_made(tmp_path: Path) -> None:
    udm10(tmp_path / "UDM10")
    lr_alone(tmp_path / "VideoLQ")
    udm, video_lq = find(tmp_path / "UDM10"), find(tmp_path / "VideoLQ")
    assert udm.kinds(["BDx4", "clean"]) == ("BDx4", "clean")
    assert "LR of the set: BDx4; LR made from the ground truth: clean" in udm.describe(udm.kinds(["BDx4", "clean"]))
    with pytest.raises(OptionError, match=r"--kinds BIx3: there is no such LR here; choose from .*clean web real"):
        udm.kinds(["BIx3"])
    with pytest.raises(OptionError, match=r"choose from LR$"):
        video_lq.kinds(["clean"])


def cut_short(root: Path) -> EvaluationSet:
    (pairs(root, 1) / "BIx4" / "clip0" / "0002.png").unlink()
    return find(root)


def other_scale(root: Path) -> EvaluationSet:
    pictures(root / "GT" / "clip0", CLIP)
    pictures(root / "LQ" / "clip0", CLIP)
    return find(root)


def damaged(root: Path) -> EvaluationSet:
    (pairs(root, 1) / "GT" / "clip0" / "0002.png").write_bytes(b"no picture")
    return find(root)


def changing(root: Path) -> EvaluationSet:
    save_photo(pairs(root, 1) / "GT" / "clip0" / "0003.png", picture(64, 64))
    return find(root)


def sound_only(root: Path) -> EvaluationSet:
    root.mkdir(exist_ok=True)
    with av.open(str(root / "a.mp4"), "w") as out:
        stream = out.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return find(root, "truth")


@pytest.mark.parametrize(
    "build, told",
    [
        (cut_short, "BIx4 has 1 frames and the ground truth 2"),
        (
            other_scale,
            "LQ is 192x96 and the ground truth 192x96; an LR of 48x24 or a ground truth of 768x384 is needed",
        ),
        (damaged, "0002.png cannot be read as a picture"),
        (changing, "0003.png: frame 2 is 64x64 and the first 192x96"),
        (sound_only, "a.mp4 holds no video"),
    ],
)
def test_clips_that_cannot_be_used_say_why(tmp_path: Path, build: Callable[[Path], EvaluationSet], told: str) -> None:
    found = build(tmp_path / "set")
    clip = found.clips[0]
    with pytest.raises(DuoVsrError, match=told):
        clip.read_lr(found.kinds(None)[0], 9, clip.read_truth(9), 0)


def lacking(root: Path) -> None:
    shutil.rmtree(pairs(root) / "BIx4" / "clip1")


def two_truths(root: Path) -> None:
    pictures(pairs(root, 1) / "HR" / "clip0", CLIP)


def strange_side(root: Path) -> None:
    pictures(pairs(root, 1) / "Downsampled" / "clip0", LOW)


def namesakes(root: Path) -> None:
    video(root / "a.mp4", LOW)
    video(root / "a.mkv", LOW)


@pytest.mark.parametrize(
    "build, told",
    [
        (lambda root: None, "is not a folder; name the folder of a set"),
        (lambda root: root.mkdir(), "holds no clips; known layouts: GT/CLIP beside LQ/CLIP"),
        (lacking, r"BIx4 lacks the clip clip1 \(clips: GT 2, BIx4 1\)"),
        (two_truths, "GT and HR could both be the ground truth"),
        (strange_side, "Downsampled/clip0: neither ground truth nor LR by its path; known layouts"),
        (namesakes, "a: two clips have this name"),
    ],
)
def test_folders_that_are_no_set_say_what_is_needed(tmp_path: Path, build: Callable[[Path], None], told: str) -> None:
    build(tmp_path / "set")
    with pytest.raises(DataError, match=told):
        find(tmp_path / "set")
