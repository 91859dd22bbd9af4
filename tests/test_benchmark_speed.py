"""The benchmarks of speed and memory: cost per frame, verdicts and tables on made-up times; nothing is timed here."""

import json
import math
import sys
from itertools import pairwise
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import child
import memory
import speed
import speed_figures as figures
from speed_figures import Cost, Figure, Sample
from speed_parts import there_and_back

from duovsr_vs.errors import DuoVsrError

TIMES = {
    "engine": 0.1, "engine, float32": 0.2, "filter, RGBS": 0.108, "filter, YUV420P8": 0.12, "command line": 0.13,
    "decode": 0.01, "to RGB": 0.002, "from RGB": 0.003, "encode": 0.01,
}  # fmt: skip
PLAN = {
    "model_name": "nano", "model_hash": "abc", "machine": "any", "precision": "bfloat16", "device": "cpu", "threads": 2,
    "width": 480, "height": 270, "out_width": 1920, "out_height": 1080,
}  # fmt: skip


def bench(**times: float) -> speed.Bench:
    """A finished run of two equal repetitions; core time is twice the wall time."""
    args = speed.parse([])
    run = speed.Bench(speed.spec_of(args, "nowhere"), args.only)
    found = TIMES | {name.replace("_", " "): seconds for name, seconds in times.items()}
    run.samples = {name: [Sample(seconds, 2 * seconds, 3.0)] * 2 for name, seconds in found.items()}
    run.plans = {"auto": PLAN, "float32": PLAN | {"precision": "float32"}}
    run.streams, run.help = {"command line": "a", "encode": "a"}, [0.3, 0.4, 0.9]
    return run


def found(run: speed.Bench, quick: bool = False) -> dict[str, Figure]:
    return {figure.name: figure for figure in speed.results(run, quick)}


def test_what_happens_once_falls_out_of_the_cost_per_frame():
    for once in (0.0, 7.5):
        short, long = (Cost(once + 0.25 * n, 2 * once + 0.5 * n) for n in (24, 144))
        assert figures.sample(short, long, (24, 144)) == Sample(0.25, 0.5, once)


def test_two_lengths_that_do_not_grow_have_no_quotient():
    for lengths in ((24, 24), (24, 12)):
        with pytest.raises(ValueError, match="must be greater"):
            figures.sample(Cost(1, 1), Cost(2, 2), lengths)


@pytest.mark.parametrize("frames", [1, 24, 48, 100, 144, 600])
def test_the_two_lengths_are_whole_chunks_and_far_apart(frames):
    few, many = figures.two_lengths(frames)
    assert few % figures.STEP == many % figures.STEP == 0
    assert 0 < few <= many / 2 and abs(many - max(frames, 48)) <= figures.STEP / 2


@pytest.mark.parametrize(
    "value, at_least, verdict",
    [
        (9.99, True, "missed"),
        (10, True, "met"),
        (10, False, "met"),
        (10.01, False, "missed"),
        (math.nan, True, "missed"),
    ],
)
def test_a_bar_is_met_from_its_value_on(value, at_least, verdict):
    assert Figure("x", "fps", (value,), 10.0, at_least).verdict == verdict


def test_the_median_is_judged_and_without_a_bar_nothing_is_missed():
    assert Figure("x", "s", (0.1, 9.0, 0.2), 0.5).met is True
    assert Figure("x", "s", (0.6, 0.1, 0.7), 0.5).met is False
    assert (Figure("x", "s", (9.0,)).met, Figure("x", "s", (9.0,)).verdict) == (None, "")


def test_ratios_are_taken_within_each_repetition():
    assert figures.paired("x", "", (2.0, 6.0), (1.0, 2.0), None).values == (2.0, 3.0)
    assert figures.percent_slower("x", (1.1, 3.0), (1.0, 2.0), None).values == pytest.approx((10.0, 50.0))


@pytest.mark.parametrize(
    "times, missed",
    [
        ({}, {"engine alone, float32"}),
        ({"engine,_float32": 0.18}, set()),
        ({"engine,_float32": 0.18, "filter,_RGBS": 0.111}, {"filter, RGBS, over engine alone"}),
        ({"engine,_float32": 0.18, "filter,_YUV420P8": 0.3}, set()),
        ({"engine,_float32": 0.18, "command_line": 0.138}, {"command line, core time over its parts'"}),
        ({"engine,_float32": 0.18, "encode": 0.001}, {"command line, core time over its parts'"}),
        ({"engine,_float32": 0.18, "engine": 0.101}, {"engine alone, bfloat16"}),
    ],
)
def test_each_bar_of_speed_fails_exactly_where_it_is_missed(times, missed):
    if "encode" in times:
        times = times | {"command_line": 0.13}
    assert {name for name, figure in found(bench(**times)).items() if figure.met is False} == missed


def test_slow_help_misses_its_bar():
    run = bench()
    assert found(run)["duovsr --help"].found == 0.4
    run.help = [0.3, 0.6, 0.9]
    assert found(run)["duovsr --help"].verdict == "missed"


def test_other_models_sizes_and_devices_have_no_bar_of_speed_and_quick_runs_have_none():
    for change in ({"model_name": "small"}, {"device": "cuda:0"}):
        run = bench()
        run.plans = {name: plan | change for name, plan in run.plans.items()}
        assert found(run)["engine alone, bfloat16"].met is None
    assert all(figure.met is None for figure in found(bench(), quick=True).values())


def test_the_slowest_stage_counts_all_parts_of_its_thread():
    samples = {name: [Sample(seconds, 0, 0)] for name, seconds in (TIMES | {"encode": 0.06, "from RGB": 0.05}).items()}
    assert figures.slowest_stage(samples, speed.STAGES) == ("encoding", pytest.approx(0.11))


def test_the_report_names_every_figure_its_bar_and_its_verdict():
    run = bench()
    rows = speed.results(run, quick=False)
    text = speed.report(run, rows, {"processor": "any", "cores": 2}, (0.0, 0.0), quick=False)
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|")}
    assert {figure.name for figure in rows} | set(TIMES) <= set(lines)
    assert ">= 10 fps" in lines["engine alone, bfloat16"] and "met" in lines["engine alone, bfloat16"]
    assert "missed" in lines["engine alone, float32"] and "8 %" in lines["filter, RGBS, over engine alone"]
    assert "streams" not in text and "are equal" in text and "busy" not in text
    run.streams["encode"] = "b"
    text = speed.report(run, rows, {"processor": "any", "cores": 2}, (3.0, 3.0), quick=False)
    assert "DIFFER" in text and "busy" in text


def test_the_record_is_json_with_every_sample_and_verdict():
    run = bench()
    record = json.loads(json.dumps(speed.record(run, speed.results(run, quick=False))))
    assert set(record["samples"]) == set(TIMES) and record["lengths"] == [24, 144]
    assert {f["name"]: f["met"] for f in record["figures"]}["engine alone, float32"] is False


def test_frames_there_and_back_never_jump():
    assert there_and_back(4, 9) == [0, 1, 2, 3, 2, 1, 0, 1, 2]
    order = there_and_back(119, 600)
    assert len(order) == 600 and all(abs(a - b) == 1 for a, b in pairwise(order))


def test_the_seconds_of_vspipe_are_read_and_a_run_cut_short_is_noticed():
    text = "Script evaluation done in 3.28 seconds\nOutput 144 frames in 12.34 seconds (11.67 fps)\n"
    assert figures.vspipe_seconds(text, 144) == 12.34
    for bad in ("", text.replace("144", "24")):
        with pytest.raises(ValueError, match="did not say"):
            figures.vspipe_seconds(bad, 144)


def test_memory_is_judged_by_the_highest_peak_and_by_its_growth():
    def verdicts(*peaks: float, full_size: bool = True) -> list[str]:
        runs = [memory.Run(n, round(1e9 * peak), None, 1.0) for n, peak in zip((100, 600, 600), peaks, strict=False)]
        return [figure.verdict for figure in memory.results(runs, full_size)]

    assert verdicts(1.4, 1.47) == ["met", "met"]
    assert verdicts(1.4, 1.48, 1.3) == ["met", "missed"]
    assert verdicts(1.49, 1.51) == ["missed", "met"]
    assert verdicts(3.0, 3.0, full_size=False) == ["", "met"]
    assert verdicts(1.4) == ["met"]


def test_the_announced_memory_is_read_from_the_plan():
    plan = "size     a\nmemory   about 1.2 GB in all, whatever the length (170 MB for frames and network)\nkept"
    assert memory.announced(plan) == 1.2e9
    assert memory.announced("memory   about 170 MB for frames and network on cuda:0") is None


def test_a_program_that_fails_gives_its_last_words_and_one_that_is_absent_the_way_to_it():
    used = child.run([sys.executable, "-c", "import os; print(os.environ['OMP_WAIT_POLICY'])"])
    assert used.out == "PASSIVE\n" and used.peak > 1_000_000 and used.core > 0
    with pytest.raises(DuoVsrError, match=r"code 3: too bad"):
        child.run([sys.executable, "-c", "import sys; print('too bad', file=sys.stderr); sys.exit(3)"])
    with pytest.raises(DuoVsrError, match="make install"):
        child.program("no-such-program")


@pytest.mark.parametrize(
    "words, said",
    [
        (["--size", "480"], "width x height"),
        (["--size", "8x8"], "8x8 cannot be upscaled"),
        (["--frames", "0"], "1 or more"),
        (["--model", "nanno"], "nano"),
        (["--device", "gpu"], "unknown"),
    ],
)
def test_bad_arguments_get_one_sentence(words, said, tmp_path, capsys):
    for program in (speed, memory):
        assert program.main([*words, "--json", str(tmp_path / "x.json")]) == 1
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
