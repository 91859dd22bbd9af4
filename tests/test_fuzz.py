"""Malformed input: what the fuzzers have found once, a few hundred of their inputs, and that they notice faults."""

from __future__ import annotations

import json
import random
import struct
import sys
import threading
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import save_file
from test_cli import Cli
from video_files import make_video

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import fuzz
import fuzz_models
from fuzz_mutations import MARKS, mutated
from fuzz_targets import Fault, _judge

from duovsr_vs.errors import ModelError, OptionError, VideoError
from duovsr_vs.model.checkpoint import load
from duovsr_vs.video.encoding import choose
from duovsr_vs.video.facts import facts_of
from duovsr_vs.video.interval import parse_position
from duovsr_vs.video.manifest import differences, write_json
from duovsr_vs.video.reader import VideoReader
from duovsr_vs.video.segments import Record
from duovsr_vs.video.streams import Span, StreamCopier

SEED = 7
INPUTS = 200
KINDS = tuple(fuzz.SHARES)


# -- what was found ----------------------------------------------------------------------------------------------------


def changed(path: Path, before: bytes, after: bytes) -> Path:
    """The file with some of its bytes replaced."""
    data = path.read_bytes()
    assert before in data
    path.write_bytes(data.replace(before, after))
    return path


@pytest.mark.parametrize("name", [b"V_MPEG4/ISO/XXX", b"\0" * 15])
def test_a_video_of_an_unknown_codec_is_refused(tmp_path: Path, name: bytes) -> None:
    source = changed(make_video(tmp_path / "a.mkv", 3), b"V_MPEG4/ISO/AVC", name)
    with pytest.raises(VideoError, match=r"a\.mkv"):
        VideoReader(str(source))


def test_a_sound_of_an_unknown_codec_is_named_and_counted(tmp_path: Path) -> None:
    source = changed(make_video(tmp_path / "a.mkv", 3, sound=True), b"A_AAC", b"A_XXX")
    with VideoReader(str(source)) as reader:
        for muxer in ("matroska", "mp4"):
            kept, lost = StreamCopier(reader.container, reader.stream.index, muxer, Span()).names()
            assert [name.startswith("audio") for name in kept + lost] == [True]
        assert [stream.kind for stream in facts_of(reader).streams] == ["audio"]


@pytest.mark.parametrize("text", ["9" * 5000, "9" * 5000 + ":00", "0:00." + "1" * 5000, "9" * 5000 + ":00:00"])
def test_numbers_of_thousands_of_digits_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match=r"^--start .{1,100}: a number of frames or a time hh:mm:ss is needed$"):
        parse_position("--start", text)


@pytest.mark.parametrize("option", [{"tune": "none"}, {"preset": "quick"}, {"profile": "high9"}])
def test_names_that_libx264_would_complain_about_by_itself_are_refused(tmp_path: Path, option: dict[str, str]) -> None:
    with VideoReader(str(make_video(tmp_path / "a.mkv", 2))) as reader:
        info = reader.info
    with pytest.raises(OptionError, match=r"libx264 knows "):
        choose("b.mkv", info.layout, info.tags, (64, 64), options=option)
    choose("b.mkv", info.layout, info.tags, (64, 64), options={"tune": "film+fastdecode", "preset": "5"})


@pytest.mark.parametrize("identity", ["x", 3, None, [1], {"part": "x"}])
def test_a_manifest_that_says_nonsense_is_another_job(identity: Any) -> None:
    assert differences(identity, {"part": {"start": 0}, "crf": "1"})
    assert all(len(text) < 300 for text in differences({"crf": "9" * 10_000}, {"crf": "1"}))


@pytest.mark.parametrize(
    "change", [{"stamps": [0, 2**63]}, {"durations": [1, -(2**70)]}, {"counters": {"redone": [1]}}, {"stamps": [0]},
               {"order": ""}, {"order": {}}]
)  # fmt: skip
def test_a_record_that_cannot_be_is_none(tmp_path: Path, change: dict[str, Any]) -> None:
    sound = asdict(Record(stamps=[0, 1], durations=[1, 1], order=[0, 1], counters={"redone": 0}))
    write_json(tmp_path / "a.json", sound)
    assert Record.read(tmp_path / "a.json") is not None
    write_json(tmp_path / "a.json", sound | {"stamps": [-(2**63), 2**63 - 1]})
    assert Record.read(tmp_path / "a.json") is not None  # else it would be made again for ever
    write_json(tmp_path / "a.json", sound | change)
    assert Record.read(tmp_path / "a.json") is None


@pytest.mark.parametrize(
    "fault", [{"channels": 2**40}, {"channels": 16.0}, {"blocks": 60_000}, {"window": 1.5}, {"channels": 65_536},
              {"default_detail": True}, {"latent_std": [float("inf")] * 24}]
)  # fmt: skip
def test_a_configuration_that_asks_for_too_much_is_refused_before_anything_is_built(
    tmp_path: Path, tiny_model: Path, fault: dict[str, Any]
) -> None:
    with safe_open(tiny_model, "pt") as file:
        metadata, tensors = dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del metadata["hash"]
    metadata["config"] = json.dumps(json.loads(metadata["config"]) | fault)
    save_file(tensors, tmp_path / "m.safetensors", metadata)
    with pytest.raises(ModelError, match=r"export (it|the model) again$"):
        load(tmp_path / "m.safetensors")


def test_a_report_to_a_device_does_not_replace_it(tmp_path: Path) -> None:
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    write_json(link, {"a": 1})
    assert link.is_symlink()
    assert [path.name for path in tmp_path.iterdir()] == ["null"]


@pytest.mark.parametrize("name", ["a\nb.mkv", "x" * 300, "x" * 5000, "a/" * 3000 + "b", "\x1b[31mred", "\udcff.mkv"])
def test_a_name_of_any_kind_makes_one_sentence(tmp_path: Path, cli: Cli, name: str) -> None:
    for arguments in (["upscale", name, "-o", tmp_path / "b.mkv"], ["info", name], ["bench", "--model", name]):
        code, _, err = cli(*arguments)
        assert (code, err.count("\n")) == (1, 1), err
        assert err.startswith("duovsr: ") and len(err) < 12_000 and "\x1b" not in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--window", "--tile", "--every"])
def test_check_takes_a_period_of_any_size_for_none(tmp_path: Path, cli: Cli, option: str) -> None:
    source = make_video(tmp_path / "a.mkv", 3)
    code, out, err = cli("check", source, source, option, 10**20)
    assert (code, err) == (0, "")
    assert "nothing is wrong" in out


@pytest.mark.parametrize("header", [
    {"__metadata__": []}, {"__metadata__": 3}, {"__metadata__": {"format": "duovsr", "config": "[" * 50_000}},
    {"__metadata__": {"format": "duovsr", "config": "[]"}},
    {"__metadata__": {"format": "duovsr", "config": "{}", "provenance": "3"}},
    {"__metadata__": {"format": "duovsr", "config": '{"latent_std": 3}'}},
])  # fmt: skip
def test_a_header_of_other_types_is_refused(tmp_path: Path, header: dict[str, Any]) -> None:
    text = json.dumps(header).encode()
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(ModelError, match=r"m\.safetensors|configuration"):
        load(tmp_path / "m.safetensors")


def test_stages_and_data_of_any_kind_are_printed(tmp_path: Path, tiny_model: Path, cli: Cli) -> None:
    with safe_open(tiny_model, "pt") as file:
        metadata, tensors = dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for provenance in ({"stages": 3, "data": 5}, {"stages": [3], "data": ["\ud800"]}, {"stages": {}, "data": {"a": 1}}):
        save_file(tensors, tmp_path / "m.safetensors", metadata | {"provenance": json.dumps(provenance)})
        code, out, err = cli("info", tmp_path / "m.safetensors")
        assert (code, err) == (0, "")
        assert "stages" in out


# -- many inputs -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fuzz.corpus(tmp_path_factory.mktemp("corpus"))


def test_no_malformed_input_breaks_a_promise(corpus: Path, tmp_path: Path) -> None:
    found = fuzz.try_all(fuzz.cases(INPUTS, SEED, KINDS), corpus, tmp_path, workers=1)
    assert found.faults == []
    assert abs(sum(sum(counts.values()) for counts in found.counts.values()) - INPUTS) < len(KINDS)
    assert found.counts.keys() == set(KINDS)
    assert {"read", "refused"} <= found.counts["read"].keys()
    assert {"code 0", "code 1"} <= found.counts["command"].keys()


# -- the fuzzers themselves --------------------------------------------------------------------------------------------


def test_the_same_seed_makes_the_same_input() -> None:
    data = bytes(range(256)) * 20
    for suffix in (*MARKS, "none"):
        twice = [[mutated(data, suffix, random.Random(n), [data[::-1]]) for n in range(30)] for _ in range(2)]
        assert twice[0] == twice[1]
        assert len(set(twice[0])) > 20
    assert fuzz.cases(100, 3, fuzz.SHARES) == fuzz.cases(100, 3, fuzz.SHARES)


def test_empty_files_and_values_of_any_kind_can_be_damaged() -> None:
    for n in range(200):
        assert isinstance(mutated(b"", "mkv", random.Random(n), [b""]), bytes)
    value = {"a": [1, {"b": None}], "c": '{"d": [1, 2]}', "e": {}}
    changes = {json.dumps(fuzz_models.changed(value, random.Random(n))) for n in range(200)}
    assert len(changes) > 50


@pytest.mark.parametrize(
    ("what", "code", "text", "new"),
    [
        ("exit code 7", 7, "", set()),
        ("traceback", 1, "Traceback (most recent call last):\nKeyError: 1", set()),
        ("more than one line", 1, "duovsr: a\ndone     b\n", set()),
        ("a line of its own", 1, "duovsr: a\nb is not there\n", set()),
        ("0 lines of error", 1, "", set()),
        ("1 lines of error", 0, "duovsr: all is fine\n", set()),
        ("left behind", 0, "", {".b.mkv.77.part"}),
        ("in spite of code 1", 1, "duovsr: a\n", {"b.mkv"}),
        ("segments left behind", 1, "duovsr: a\n", {".b.mkv.duovsr"}),
        ("segments left behind", 1, "duovsr: a\n", {".b.mkv.duovsr", ".b.mkv.duovsr/lock"}),
        ("segments left behind", 1, "duovsr: a\n", {".b.mkv.duovsr/000001.mkv"}),
    ],
)
def test_a_broken_promise_is_a_fault(what: str, code: int, text: str, new: set[str], tmp_path: Path) -> None:
    with pytest.raises(Fault, match=what):
        _judge(["upscale", "a.mkv", "-o", "b.mkv"], code, text, new, tmp_path)


def test_the_page_of_a_preview_is_whole(tmp_path: Path) -> None:
    (tmp_path / "b.preview.html").write_text("<html>")
    with pytest.raises(Fault, match="cut short"):
        _judge(["upscale", "a.mkv", "-o", "b.mkv", "--preview=1"], 0, "done     a\n", {"b.preview.html"}, tmp_path)


def test_what_is_promised_is_no_fault(tmp_path: Path) -> None:
    words = ["upscale", "a.mkv", "-o", "b.mkv"]
    _judge(words, 1, "input    a.mkv\nduovsr: a sentence\n", set(), tmp_path)
    _judge(words, 1, "duovsr: a; 1 of 3 segments are finished; go on\n", {".b.mkv.duovsr"}, tmp_path)
    (tmp_path / "b.preview.html").write_text("<html></html>\n")
    told = "preview  frames 0 to 19, in the middle\nestimate the whole job\ndone     b.preview.html\n"
    _judge([*words, "--preview", "1"], 0, told, {"b.preview.html"}, tmp_path)
    _judge(words, 1, "duovsr: a sentence\n", {".b.mkv.duovsr/lock"}, tmp_path)  # the folder was there before
    _judge(words, 2, "Usage: duovsr upscale\n╭─ Error ─╮\n", set(), tmp_path)


WORKER = """
import json, os, sys, time
print(json.dumps({"ready": True}), flush=True)
for order in sys.stdin:
    kind, seed = order.split()
    if kind == "dies":
        os.abort()
    if kind == "unmade":
        open(os.path.join(sys.argv[2], "making"), "w").close()
        os.abort()
    if kind == "hangs":
        time.sleep(100)
    print(json.dumps({"word": "read", "fault": None, "seconds": 0.1, "grown": int(seed)}), flush=True)
"""


def test_crashes_hangs_and_growth_are_noticed_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fuzz_worker.py").write_text(WORKER)
    monkeypatch.setattr(fuzz, "HERE", tmp_path)
    (tmp_path / "worker0").mkdir()
    kinds = ["fine", "unmade", "dies", "fine", "hangs", "fine", "grows", "fine"]
    todo = [fuzz.Case(kind, str(10**12 if kind == "grows" else n)) for n, kind in enumerate(kinds)]
    found = fuzz.try_all(todo, tmp_path, tmp_path, workers=1, patience=1.0)
    assert [one["kind"] for one in found.faults] == ["dies", "hangs", "grows"]
    words = ("the process ended with code -6", "no answer after", "the process grew by 1000.0 GB")
    assert all(one["fault"].startswith(said) for one, said in zip(found.faults, words, strict=True))
    assert found.counts["fine"]["read"] == 4
    assert found.counts["unmade"] == {"not made": 1}
    assert not [thread for thread in islice(threading.enumerate(), 50) if thread.name.startswith("fuzz")]
