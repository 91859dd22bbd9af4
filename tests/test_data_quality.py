"""Which clips are soft: by their sharpness among their like, by the bits that their source spent."""

from __future__ import annotations

import json
from math import isnan, nan
from pathlib import Path

import av
import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from data_clips import film, picture, save_photo, save_video

from training.data.codec import probe
from training.data.dataset import PackedClips
from training.data.pack import pack
from training.data.quality import PHOTO_BITS, VIDEO_BITS, label_soft
from training.data.shards import ClipRow, read_index
from training.data.sources import DataError


def row(
    sharpness: float, bits: float = 9.0, look: str = "video", split: str = "train", source: str = "a.mp4"
) -> ClipRow:
    return ClipRow(
        clip="", shard="", split=split, source=source, group="", origin="", author="", licence="",
        is_video=look == "video", look=look, first_frame=0, frames=2, height=64, width=64, fps=24.0,
        sharpness=sharpness, bits_per_pixel=bits, soft=False, hr_offset=0, flow_offset=0, mask_offset=0,
        lr_offsets=[], lr_kinds=[],
    )  # fmt: skip


def soft(*rows: ClipRow) -> list[bool]:
    return [r.soft for r in label_soft(rows)]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four sharp films, a blurred one, a starved one; a photo kept well, one kept badly, one without loss."""
    data, out = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("pack")
    for i in range(5):
        clip = film(3, 64, 80, seed=i)
        sigma = 1.2 if i == 4 else 0.4
        save_video(data / f"film{i}.mp4", np.stack([cv2.GaussianBlur(f, (0, 0), sigma) for f in clip]))
    save_video(data / "starved.mp4", film(24, 128, 160, dy=0, dx=0, seed=9), crf=45)
    photo = picture(264, 280, seed=10)
    assert cv2.imwrite(str(data / "good.jpg"), photo, [cv2.IMWRITE_JPEG_QUALITY, 95])
    assert cv2.imwrite(str(data / "bad.jpg"), cv2.GaussianBlur(photo, (0, 0), 3), [cv2.IMWRITE_JPEG_QUALITY, 5])
    save_photo(data / "flat.png", np.full((264, 280, 3), 80, np.uint8))
    pack(data, out, val_share=0, say=lambda _: None)
    return out


def test_the_least_sharp_fifth_of_each_look_is_soft() -> None:
    films = [row(0.01 * i) for i in range(10)]
    photos = [row(5 + 0.01 * i, look="sharp", source="a.png") for i in range(10)]
    assert soft(*films, *photos) == ([True] * 2 + [False] * 8) * 2
    assert soft(row(0.1)) == [False], "one clip has none to be compared with"


def test_held_out_clips_are_measured_against_the_training_clips() -> None:
    films = [row(0.01 * i) for i in range(10)]
    held = [row(0.0, split="val"), row(0.5, split="val")]
    assert soft(*films, *held) == [True] * 2 + [False] * 8 + [True, False]
    assert soft(*films, *[row(-1.0, split="val")] * 20)[:10] == soft(*films), "they do not move the bar"
    assert soft(row(0.1, split="val", look="sharp")) == [False]


def test_few_bits_make_a_target_soft_unless_nothing_was_lost() -> None:
    assert soft(row(1, VIDEO_BITS * 0.99), row(1, VIDEO_BITS), row(1, nan)) == [True, False, False]
    photos = [row(1, bits, "sharp", source="a.jpg") for bits in (PHOTO_BITS * 0.99, PHOTO_BITS)]
    assert soft(*photos, row(1, 0.01, "sharp", source="a.PNG")) == [True, False, False]


def test_pack_finds_bits_and_softness(packed: Path) -> None:
    rows = {r.source: r for r in read_index(packed)[0] if r.look != "soft"}
    assert [rows[f"film{i}.mp4"].soft for i in range(5)] == [False] * 4 + [True]
    assert rows["starved.mp4"].soft and rows["starved.mp4"].bits_per_pixel < VIDEO_BITS
    assert rows["bad.jpg"].soft and not rows["good.jpg"].soft and not rows["flat.png"].bits_per_pixel > PHOTO_BITS
    assert read_index(packed)[2]["soft_clips"] == sum(r.soft for r in read_index(packed)[0])


def test_samples_carry_the_softness_of_their_clip(packed: Path) -> None:
    clips = PackedClips(packed)
    batch = clips.batch(0, 0, 60, 8, kinds={"clean": 1.0})
    assert np.array_equal(batch["soft"], [clips.rows[i].soft for i in batch["clip"]])
    assert 0 < batch["soft"].mean() < 1


def test_bits_per_pixel_are_those_of_the_stream(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    save_video(path, film(5, 64, 80))
    with av.open(str(path)) as container:
        payload = sum(packet.size for packet in container.demux(video=0))
    assert probe(path).bits_per_pixel == pytest.approx(8 * payload / (5 * 64 * 80))
    assert 0.8 * path.stat().st_size < payload < path.stat().st_size


def test_a_pack_of_layout_1_is_read_and_labelled(packed: Path, tmp_path: Path) -> None:
    for path in packed.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    table = pq.read_table(packed / "index.parquet")
    meta = {**table.schema.metadata, b"duovsr.layout": b"1"}
    old = table.drop_columns(["bits_per_pixel", "soft"]).replace_schema_metadata(meta)
    pq.write_table(old, tmp_path / "index.parquet")
    rows = read_index(tmp_path)[0]
    assert all(isnan(r.bits_per_pixel) for r in rows)
    by_name = {r.source: r.soft for r in rows}
    assert by_name["film4.mp4"] and not by_name["film0.mp4"]
    now, then = PackedClips(packed).sample(0, 3, 1, 8), PackedClips(tmp_path).sample(0, 3, 1, 8)
    assert all(np.array_equal(now[k], then[k]) for k in now if k != "soft")
    pq.write_table(old.replace_schema_metadata({**meta, b"duovsr.layout": b"3"}), tmp_path / "index.parquet")
    with pytest.raises(DataError, match="layout 3, 2 is needed"):
        read_index(tmp_path)
    assert json.loads(table.schema.metadata[b"duovsr.facts"])["clips"] == len(rows)
