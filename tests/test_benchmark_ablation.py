"""The ablation: how its arms differ, intervals on made-up scores, the measures, and a whole run on a small pack."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import ablation  # noqa: E402
import ablation_arms as arms  # noqa: E402
import ablation_figures as figures  # noqa: E402
import ablation_plot  # noqa: E402
import ablation_scores  # noqa: E402
from training_files import make_pack  # noqa: E402

from training.data.dataset import PackedClips  # noqa: E402

SOURCES = [f"film {n}" for n in range(8) for _ in range(4)]
SEEDS = 3


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def made_up(shift: float) -> figures.Scores:
    """Two arms of one direction: `full` differs from `dmd_only` by `shift`, the same in every measure."""
    worse = {
        seed: {name: list(noise(len(SOURCES), seed=seed)) for name in ablation_scores.MEASURES} for seed in range(3)
    }
    wobble = 0.01 * noise(len(SOURCES), seed=9)
    better = {s: {k: list(np.array(v) + shift + wobble) for k, v in m.items()} for s, m in worse.items()}
    return {"full": better, "dmd_only": worse}


@pytest.mark.parametrize("arm", arms.ARMS, ids=lambda arm: arm.name)
def test_an_arm_differs_from_full_in_stage_two_alone_and_makes_as_many_updates(arm: arms.Arm) -> None:
    full, own = arms.recipe_of(1, 0.5, arms.ARMS[0]), arms.recipe_of(1, 0.5, arm)
    assert {**asdict(own), "dual_stream": 0} == {**asdict(full), "dual_stream": 0}
    assert {**asdict(full.dual_stream), **arm.changes} == asdict(own.dual_stream)
    assert own.dual_stream.steps == full.dual_stream.steps == 200


def test_the_streams_have_the_weights_of_the_paper_and_no_loss_of_ours() -> None:
    stage_two = arms.RECIPE.dual_stream
    assert (stage_two.matching, stage_two.adversarial, stage_two.feature) == (1.0, 0.1, 0.05)
    assert (stage_two.aux_per_student, stage_two.start_blend, stage_two.matching_end) == (3, 1.0, 1.0)
    for name in arms.RECIPE.stages:
        assert (arms.RECIPE.stage(name).temporal, arms.RECIPE.stage(name).consistency) == (0, 0)
    assert stage_two.paired == 0


@pytest.mark.parametrize("shift, found", [(1.0, 1), (-1.0, -1), (0.0, 0)])
def test_a_clear_difference_is_judged_by_the_direction_of_each_measure(shift: float, found: int) -> None:
    claims = figures.comparisons(made_up(shift), SOURCES)
    assert list(claims) == ["joint > DMD alone"]
    for name, entry in claims["joint > DMD alone"].items():
        sign = found * ablation_scores.MEASURES[name][1]
        assert entry["verdict"] == {1: figures.AGREES, -1: figures.DISAGREES, 0: figures.OPEN}[sign]
        assert entry["low"] <= entry["mean"] <= entry["high"]
        assert len(entry["per_seed"]) == SEEDS


def test_a_gain_that_one_seed_alone_shows_is_not_resolved() -> None:
    differences = 0.01 * noise(SEEDS, len(SOURCES))
    differences[1] += 1
    assert not figures.crossed_interval(differences, SOURCES).resolved


def test_a_gain_on_one_source_alone_is_not_resolved_however_many_segments_it_has() -> None:
    sources = SOURCES + ["long film"] * 100
    differences = 0.01 * noise(SEEDS, len(sources))
    differences[:, len(SOURCES) :] += 5
    interval = figures.crossed_interval(differences, sources)
    assert not interval.resolved
    assert interval.mean == pytest.approx(5 / 9, abs=0.02)  # each source counts once


def test_equal_seeds_give_the_interval_of_the_sources() -> None:
    one = noise(1, len(SOURCES))
    found = figures.crossed_interval(np.repeat(one, 4, 0), SOURCES)
    spread = one.reshape(8, 4).mean(1).std() / np.sqrt(8)
    assert found.high - found.low == pytest.approx(2 * 1.96 * spread, rel=0.1)


def test_a_segment_without_a_value_is_left_out() -> None:
    differences = np.ones((SEEDS, len(SOURCES)))
    differences[0, 2] = np.nan
    found = figures.crossed_interval(differences, SOURCES)
    assert (found.mean, found.groups) == (1, 8)
    differences[:, :4] = np.nan
    assert figures.crossed_interval(differences, SOURCES).groups == 7


def test_few_seeds_resolve_nothing() -> None:
    two = {arm: {seed: by[seed] for seed in (0, 1)} for arm, by in made_up(1.0).items()}
    assert {e["verdict"] for e in figures.comparisons(two, SOURCES)["joint > DMD alone"].values()} == {figures.OPEN}


def test_gradients_are_compared_seed_by_seed() -> None:
    found = {"full": {"variance": [1.0, 5.0, 1.0]}, "no_stage_1": {"variance": [2.0, 4.0, 2.0]}}
    assert figures.calmer(found, "variance") == "2 of 3"


def test_few_sources_resolve_nothing() -> None:
    assert not figures.crossed_interval(np.ones((SEEDS, 5)), [str(n) for n in range(5)]).resolved


def test_the_variance_of_gradient_norms_leaves_the_warm_up_out() -> None:
    norms = [100.0] * 10 + [1.0, 3.0] * 20
    found = figures.gradient_summary({"full": {0: norms}})["full"]
    assert found == {"mean": [2.0], "variance": [1.0], "relative_variance": [0.25]}


def test_the_texture_distance_is_that_of_normal_distributions() -> None:
    a = noise(20000, 3) * [1, 2, 3]
    b = noise(20000, 3, seed=1) * [2, 2, 1] + [0, 4, 0]
    assert ablation_scores.frechet_distance(a, b) == pytest.approx(1 + 16 + 4, rel=0.03)
    assert ablation_scores.frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


def test_the_texture_distance_does_not_reward_an_average() -> None:
    rng = np.random.default_rng(0)
    truth, other = rng.integers(0, 256, (2, 1, 96, 96, 3), dtype=np.uint8)
    average = np.full_like(truth, 128)
    energies = [ablation_scores.band_energies(clip) for clip in (truth, other, average)]
    assert energies[0].shape == (144, 5)
    assert ablation_scores.frechet_distance(energies[0], energies[1]) < 0.1
    assert ablation_scores.frechet_distance(energies[0], energies[2]) > 10


def test_bands_of_a_wave_are_those_of_its_frequency() -> None:
    x = np.arange(96)
    for period, band in ((16, 0), (2, 4)):
        wave = (128 + 100 * np.cos(2 * np.pi * x / period)).round().astype(np.uint8)
        clip = np.broadcast_to(wave[None, None, :, None], (1, 96, 96, 3))
        assert ablation_scores.band_energies(clip).mean(0).argmax() == band


@pytest.fixture(scope="module")
def small_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pack(tmp_path_factory.mktemp("ablation"))


def test_segments_are_spread_over_clips_and_kinds(small_pack: Path) -> None:
    chosen = ablation_scores.choose(PackedClips(small_pack, "train"))
    assert len(chosen) == 6
    assert {kind for _, kind in chosen} == {"clean", "web", "real"}


def test_too_few_sources_are_refused_in_one_sentence(
    small_pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ablation.main(["--data", str(small_pack), "--out", str(tmp_path)]) == 1
    assert "8 are needed" in capsys.readouterr().err
    assert ablation.main(["--data", str(small_pack), "--out", str(tmp_path), "--scale", "0"]) == 1
    assert "--scale" in capsys.readouterr().err


def test_the_plot_and_the_tables_show_every_direction(tmp_path: Path) -> None:
    scores = made_up(1.0) | {"gan_only": made_up(0.3)["full"]}
    found = figures.comparisons(scores, SOURCES)
    gradients = figures.gradient_summary({"full": {0: list(np.arange(1, 40.0))}})
    record = {"comparisons": found, "gradients": gradients, "segments": [], "seeds": [0, 1, 2], "scale": 1}
    ablation_plot.draw(record, tmp_path / "plot.png")
    assert 10_000 < (tmp_path / "plot.png").stat().st_size < 300_000
    text = "\n".join(figures.directions_table(found) + figures.means_table(scores))
    assert "joint > DMD alone" in text and "joint > GAN alone" in text and "I + II, GAN alone" in text


@pytest.mark.slow
def test_a_run_is_finished_once_and_written(
    small_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ablation_scores.segments, "__defaults__", (1,))
    monkeypatch.setattr(ablation, "LEAST_SEGMENTS", 1)
    command = ["--data", str(small_pack), "--out", str(tmp_path), "--seeds", "1", "--scale", "0.001"]
    command += ["--only", "full", "dmd_only"]
    assert ablation.main(command) == 0
    record = json.loads((tmp_path / "ablation.json").read_text())
    assert list(record["comparisons"]) == ["joint > DMD alone"]
    assert record["machine"]["versions"]["torch"]
    assert record["comparisons"]["joint > DMD alone"]["niqe_gap"]["verdict"] == figures.OPEN
    assert (tmp_path / "ablation.md").is_file() and (tmp_path / "ablation.png").is_file()
    capsys.readouterr()
    assert ablation.main(command) == 0
    again = capsys.readouterr().out
    assert "dual_stream" not in again and "measured" not in again
    command[command.index("0.001")] = "0.01"
    assert ablation.main(command) == 1
