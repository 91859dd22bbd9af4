"""Packing: what is split, skipped and refused, and that a pack is the same however many processes made it."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import av
import numpy as np
import pytest
from data_clips import film, picture, save_photo, save_video

from training.data.clips import spans
from training.data.codec import probe, read_frames
from training.data.dataset import PackedClips
from training.data.pack import main, pack
from training.data.shards import read_index
from training.data.sources import DataError, find, hold_out


def _cut_at_the_end(path: Path, out: Path) -> None:
    """The same video with its index at the front and its last packet missing: what is there decodes well."""
    with av.open(str(path)) as source, av.open(str(out), "w", options={"movflags": "faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    with av.open(str(out)) as cut:
        last = max(packet.pos for packet in cut.demux(video=0) if packet.pos)
    out.write_bytes(out.read_bytes()[:last])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three parts of one film, two other films, two photos, and six files that cannot be used."""
    data = tmp_path_factory.mktemp("data")
    for i, name in enumerate(("park_a", "park_b", "park_part3", "river", "tower")):
        save_video(data / f"{name}.mp4", film(5, 72, 104, seed=i))
    for i in range(2):
        save_photo(data / f"photo{i}.png", picture(264, 280, seed=10 + i))
    whole = (data / "river.mp4").read_bytes()
    (data / "torn.mp4").write_bytes(whole[: len(whole) // 2])
    _cut_at_the_end(data / "tower.mp4", data / "short.mp4")
    (data / "broken.jpg").write_bytes(b"no picture")
    save_photo(data / "tiny.png", picture(40, 50))
    for name in ("half.jpg", "half.png"):
        save_photo(data / name, picture(264, 280))
        (data / name).write_bytes((data / name).read_bytes()[:-5000])
    return data


@pytest.fixture(scope="module")
def packed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pack")
    pack(folder, out, jobs=1, val_share=0.3, say=lambda _: None)
    return out


def test_bad_files_are_skipped_counted_and_named(packed: Path) -> None:
    rows, _, facts = read_index(packed)
    assert set(facts["skipped"]) == {"torn.mp4", "short.mp4", "broken.jpg", "half.jpg", "half.png", "tiny.png"}
    assert all(name in told for name, told in facts["skipped"].items())
    assert "of 5 frames decode" in facts["skipped"]["short.mp4"]
    assert "cut short" in facts["skipped"]["half.jpg"] and "50x40" in facts["skipped"]["tiny.png"]
    assert facts["clips"] == len(rows) == 5 + 2 * 3 and facts["frames"] == 5 * 5 + 6 * 6


def test_a_film_with_a_damaged_frame_is_skipped_and_named(tmp_path: Path) -> None:
    """Decoders paint over what is missing; such frames must not become ground truth."""
    save_video(tmp_path / "whole.mp4", film(12, 64, 80))
    with av.open(str(tmp_path / "whole.mp4")) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.pos]
    data = bytearray((tmp_path / "whole.mp4").read_bytes())
    start, size = places[6]
    data[start + size // 2 : start + size - 4] = bytes(255 - b for b in data[start + size // 2 : start + size - 4])
    (tmp_path / "scratched.mp4").write_bytes(bytes(data))
    facts = pack(tmp_path, tmp_path / "out", val_share=0, lr="clean", say=lambda _: None)
    assert set(facts["skipped"]) == {"scratched.mp4"} and facts["frames"] == 12
    assert "is damaged; cut the file there" in facts["skipped"]["scratched.mp4"]


def test_films_that_change_size_or_have_one_frame_are_skipped_and_named(tmp_path: Path) -> None:
    save_video(tmp_path / "good.mp4", film(2, 64, 80))
    save_video(tmp_path / "single.mp4", film(1, 64, 80))
    for name, width in (("a.ts", 80), ("b.ts", 96)):
        save_video(tmp_path / name, film(4, 64, width))
    (tmp_path / "joined.ts").write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    for name in ("a.ts", "b.ts"):
        (tmp_path / name).unlink()
    facts = pack(tmp_path, tmp_path / "out", val_share=0, lr="clean", say=lambda _: None)
    assert set(facts["skipped"]) == {"single.mp4", "joined.ts"}
    assert "changes its size at frame 4" in facts["skipped"]["joined.ts"]
    assert "no shot of it is two frames long" in facts["skipped"]["single.mp4"]


def test_parts_of_a_film_and_clips_of_a_photo_stay_on_one_side(folder: Path, packed: Path) -> None:
    rows, _, _ = read_index(packed)
    held = hold_out(find(folder), 0.3)
    assert all((r.split == "val") == (r.group in held) for r in rows)
    sides: dict[str, set[str]] = {}
    for r in rows:
        sides.setdefault(r.group, set()).add(r.split)
    assert all(len(s) == 1 for s in sides.values())
    assert {s for side in sides.values() for s in side} == {"train", "val"}
    assert len({r.group for r in rows if r.source.startswith("park")}) == 1
    assert len(sides) == 5


def test_films_of_one_origin_are_one_group(folder: Path, tmp_path: Path) -> None:
    for name in ("river.mp4", "tower.mp4"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    facts = {"clips": {n: {"source": f"a/b:videos/{n}", "licence": "CC0-1.0"} for n in ("river.mp4", "tower.mp4")}}
    (tmp_path / "manifest.json").write_text(json.dumps(facts))
    sources = find(tmp_path)
    assert len({s.group for s in sources}) == 1 and sources[0].licence == "CC0-1.0"
    assert hold_out(sources, 0.5) == frozenset()


def test_a_pack_says_that_nothing_is_held_out_and_what_is_ignored_and_what_a_unit_holds(tmp_path: Path) -> None:
    said = list[str]()
    save_video(tmp_path / "one.mp4", film(2, 64, 80))
    (tmp_path / "manifest.json").write_text(json.dumps({"one.mp4": {"licence": "CC0-1.0"}}))
    pack(tmp_path, tmp_path / "out", lr="none", say=said.append)
    assert said[0].endswith('group the files, {"films": {"one.mp4": {"source": …, "author": …, "licence": …}}}')
    assert said[1].startswith("0 of 1 sources are held out for validation; training refuses such a pack: add a film")
    assert said[2] == "[1/1] one.mp4: 1 clips" and len(said) == 3
    with pytest.raises(DataError, match="no clips of the split 'val'"):
        PackedClips(tmp_path / "out", "val")


def test_a_handful_of_photos_is_told_by_its_first_and_last(tmp_path: Path) -> None:
    said = list[str]()
    for name in ("b.png", "a.png", "c.png"):
        (tmp_path / name).write_bytes(b"no picture")
    with pytest.raises(DataError, match="none of the 3 files could be used"):
        pack(tmp_path, tmp_path / "out", say=said.append)
    assert said[0] == "[1/1] 3 photos, a.png to c.png: 0 clips"


def test_two_processes_write_the_same_bytes_as_one(folder: Path, packed: Path, tmp_path: Path) -> None:
    small = tmp_path / "data"
    small.mkdir()
    for name in ("river.mp4", "tower.mp4"):
        (small / name).write_bytes((folder / name).read_bytes())
    for jobs in (1, 2):
        pack(small, tmp_path / str(jobs), jobs=jobs, lr="clean,web,real,realbasicvsr*2,web_wide*3", say=lambda _: None)
    names = sorted(p.name for p in (tmp_path / "1").iterdir())
    assert names == sorted(p.name for p in (tmp_path / "2").iterdir()) and len(names) == 3
    assert all((tmp_path / "1" / n).read_bytes() == (tmp_path / "2" / n).read_bytes() for n in names)


def test_other_files_in_the_folder_change_nothing_for_a_film(folder: Path, packed: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "river.mp4").write_bytes((folder / "river.mp4").read_bytes())
    pack(data, tmp_path / "out", say=lambda _: None)
    alone = PackedClips(tmp_path / "out").clip(0)
    sides = [PackedClips(packed, split) for split in ("train", "val")]
    among = next(p.clip(i) for p in sides for i, row in enumerate(p.rows) if row.source == "river.mp4")
    assert all(np.array_equal(a, b) for a, b in zip(alone.lr, among.lr, strict=True))


def test_index_offsets_point_at_the_members_of_the_tar(packed: Path) -> None:
    row = PackedClips(packed, "train").clip(0)
    with tarfile.open(packed / row.row.shard) as tar:
        for name, view in {"hr": row.hr, "flow": row.flow, "mask": row.mask_bits, "lr.3": row.lr[3]}.items():
            member = tar.extractfile(f"{row.row.clip}.{name}.npy")
            assert member is not None
            assert np.array_equal(np.load(io.BytesIO(member.read())), view)
        facts = tar.extractfile(f"{row.row.clip}.json")
        assert facts is not None and len(json.load(facts)["lr"]) == len(row.lr)


def test_packed_frames_are_the_frames_of_the_film(folder: Path, packed: Path) -> None:
    clips = PackedClips(packed, "train")
    video = next(c for c in map(clips.clip, range(len(clips))) if c.row.is_video)
    frames = np.stack(list(read_frames(folder / video.row.source)))
    assert np.array_equal(video.hr, frames)
    assert video.row.lr_kinds == ["clean", "web", "web", "web", "real", "real", "real"]
    assert not np.array_equal(video.lr[1], video.lr[2])


def test_reading_keeps_bt709_colours(folder: Path) -> None:
    clip = film(5, 72, 104, seed=3)
    frames = np.stack(list(read_frames(folder / "river.mp4")))
    assert frames.shape == clip.shape
    assert np.abs(frames.mean((0, 1, 2)) - clip.mean((0, 1, 2))).max() < 0.7
    assert np.abs(frames.astype(int) - clip).mean() < 2


@pytest.mark.parametrize("cut", [1, 2000, 100_000])
def test_a_shard_cut_short_is_an_error_that_names_it(packed: Path, tmp_path: Path, cut: int) -> None:
    for path in packed.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    name = PackedClips(packed, "train").rows[0].shard
    shard = tmp_path / name
    shard.write_bytes(shard.read_bytes()[:-cut])
    with pytest.raises(DataError, match=name):
        PackedClips(tmp_path, "train")
    shard.unlink()
    with pytest.raises(DataError, match=name):
        PackedClips(tmp_path, "train")


def test_a_damaged_index_is_an_error_that_names_it(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "index.parquet").write_bytes((packed / "index.parquet").read_bytes()[:-100])
    with pytest.raises(DataError, match=r"index\.parquet is damaged"):
        PackedClips(tmp_path)
    with pytest.raises(DataError, match="holds no"):
        PackedClips(tmp_path / "nowhere")


def test_an_empty_folder_and_an_existing_pack_are_refused(folder: Path, packed: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no videos and no photos"):
        pack(tmp_path, tmp_path / "out", say=lambda _: None)
    with pytest.raises(DataError, match="already holds a pack"):
        pack(folder, packed, say=lambda _: None)
    (tmp_path / "only.jpg").write_bytes(b"")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "index.parquet").write_bytes((packed / "index.parquet").read_bytes())
    with pytest.raises(DataError, match=r"only\.jpg"):
        pack(tmp_path, tmp_path / "out", overwrite=True, say=lambda _: None)
    assert not (tmp_path / "out" / "index.parquet").exists()


def test_the_command_says_what_is_wrong_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "none is not a folder" in said


def test_clips_never_reach_over_a_cut(tmp_path: Path) -> None:
    assert list(spans(50, (), 24)) == [(0, 17), (17, 33), (33, 50)]
    assert list(spans(40, (10, 11), 24)) == [(0, 10), (11, 25), (25, 40)]
    dark, light = np.zeros((4, 64, 64, 3), np.uint8), np.full((3, 64, 64, 3), 200, np.uint8)
    save_video(tmp_path / "cut.mp4", np.concatenate([dark, light]))
    facts = probe(tmp_path / "cut.mp4")
    assert facts.frames == 7 and facts.cuts == (4,)
