"""The benchmark of long jobs: its settings, and its verdicts on made-up measurements; nothing is timed here."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import long_jobs
from speed_figures import STEP, Sample

from duovsr_vs.errors import OptionError


def bench(*given: str) -> long_jobs.Bench:
    args = long_jobs.parse(list(given))
    return long_jobs.Bench(*long_jobs.settings(args), "nowhere", args.only)


@pytest.mark.parametrize("given", [(), ("--full",), ("--quick",), ("--rate", "5", "--size", "160x90", "--scale", "2")])
def test_clips_are_written_in_several_whole_segments(given):
    run = bench(*given)
    short, long = run.long.frames
    assert short > run.long.long_segment and long >= 2 * short
    assert run.long.long_segment % 8 == 0
    assert all(length % STEP == 0 and length % (2 * run.timed.segment) == 0 for length in run.timed.lengths)
    assert run.timed.lengths[1] > run.timed.lengths[0] > run.timed.segment


def test_only_ten_minutes_of_360p_are_called_that():
    assert bench("--full").long.is_full
    for given in ((), ("--full", "--rate", "24"), ("--full", "--scale", "2"), ("--full", "--size", "320x180")):
        assert not bench(*given).long.is_full


@pytest.mark.parametrize("given", [("--segment", "20"), ("--rate", "1/10"), ("--repeats", "0"), ("--size", "big")])
def test_settings_that_measure_nothing_are_refused(given):
    with pytest.raises(OptionError):
        bench(*given)


@pytest.mark.parametrize(("factor", "met"), [(1.0, True), (1.04, True), (1.06, False)])
def test_verdicts_follow_the_bars(factor, met):
    run = bench()
    few, many = run.long.frames
    run.peaks = {few: 1_000_000_000, many: round(1e9 * factor)}
    run.samples = {name: [Sample(0.1, 0.2, 1.0)] * 2 for name in long_jobs.PARTS}
    cost = 5 * 0.2 * (1 + 2 * (factor - 1))
    run.samples["command in segments"] = [Sample(0.5, cost, 1.0)] * 2
    run.samples["one process, two threads"] = [Sample(0.5, 1.0, 1.0)] * 2
    run.samples["two workers, a thread each"] = [Sample(0.5 * factor, 1.0, 9.0)] * 2
    found = long_jobs.results(run)
    assert [figure.met for figure in found] == [met] * 3
    assert all(figure.met is None for figure in long_jobs.results(run, judged=False))
    text = long_jobs.report(run, found, {"processor": "any", "cores": 2}, 0.1, quick=False)
    assert "90 and 900 frames" in text and "less than 640x360 at 25 fps" in text
    assert ("missed" in text) is not met
