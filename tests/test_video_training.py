"""People are cut out and put elsewhere, and the loops learn, stop, and repeat themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from rich.progress import Progress
from torch import Tensor, nn

from hard.datasets.video import ACTIVITIES, Item
from hard.types import U8, HardError
from test_video_data import write_video
from tools import webcam
from tools.clips import Example, batches, divide, examples, read
from tools.compose import moments
from tools.cutout import Person, before_a_wall, before_one_camera, bounds
from tools.fit import Schedule, class_weights, fit, predict
from tools.others import Props, Studio
from tools.scores import scores
from tools.video_presets import PRESETS, VideoPreset
from tools.video_score import parts_of
from tools.webcam import CLIP, FOLDS, LABELS, joined, names


def person(label: str, group: str, seed: int = 0) -> Person:
    """A dark body with one arm that goes up and down, before a light wall."""
    rng = np.random.default_rng(seed)
    frames = np.full((40, 48, 48, 3), 200, np.uint8)
    matte = np.zeros((40, 48, 48), np.uint8)
    for k in range(40):
        y = int(24 + 10 * np.sin(k * rng.uniform(0.4, 0.5)))
        for part in (np.s_[14:46, 20:28], np.s_[y : y + 4, 28:40]):
            frames[k][part], matte[k][part] = 40, 255
    return Person(label, group, frames, matte, frames[0] * 0 + 200, 25.0, bounds(matte))


@pytest.fixture
def props() -> Props:
    rng = np.random.default_rng(0)
    stills = rng.integers(0, 256, (6, 96, 96, 3), np.uint8)
    films = [(rng.integers(0, 256, (60, 96, 96, 3), np.uint8), 25.0)]
    people = [person(label, f"s{k:02}", k) for k, label in enumerate(LABELS[:-1])]
    return Props(people, stills, films, [p.background for p in people])


def test_a_studio_draws_every_label_and_every_kind_of_nothing(props: Props) -> None:
    studio = Studio(props, LABELS, CLIP, 0.5, 0)
    clips, labels = zip(*(studio.draw() for _ in range(120)), strict=True)
    assert {c.shape for c in clips} == {(20, 64, 64, 3)}
    assert {c.dtype for c in clips} == {np.dtype(np.uint8)}
    assert set(labels) == set(range(len(LABELS)))
    assert 30 < sum(label == len(LABELS) - 1 for label in labels) < 90


def test_a_studio_draws_the_same_again_from_the_same_seed(props: Props) -> None:
    a, b, c = (np.stack([Studio(props, LABELS, CLIP, 0.5, s).draw()[0] for _ in range(2)]) for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


def test_a_studio_without_films_of_other_things_makes_do(props: Props) -> None:
    studio = Studio(Props(props.people, props.stills, [], props.rooms), LABELS, CLIP, 1.0, 0)
    assert all(studio.draw()[1] == len(LABELS) - 1 for _ in range(40))


def test_a_short_film_runs_to_and_fro() -> None:
    rng = np.random.default_rng(0)
    for n in (15, 51, 200):
        for speed in (0.7, 1.0, 1.4):
            rows = moments(n, CLIP, 25.0, speed, rng)
            assert len(rows) == CLIP.frames
            assert rows.min() >= 0
            assert rows.max() < n
            assert np.abs(np.diff(rows)).max() < 8  # 2.5 frames apart at speed 1, give or take


def film_of(figure: Person, wall: U8, path: Path, start: int) -> Item:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (48, 48))
    for frame, matte in zip(figure.frames, figure.matte, strict=True):
        shown = np.where(np.roll(matte, start, axis=1)[..., None] > 0, np.roll(frame, start, axis=1), wall)
        writer.write(shown.astype(np.uint8))
    writer.release()
    return Item(path, path.parent.name, path.stem)


def overlap(found: Person, truth: U8) -> float:
    a, b = found.matte > 127, truth > 127
    return float((a & b).sum() / (a | b).sum())


def test_a_person_is_cut_out_before_a_wall(tmp_path: Path) -> None:
    figure = person("bend", "s01")
    item = film_of(figure, np.full((48, 48, 3), 200, np.uint8), tmp_path / "bend/a.avi", 0)
    assert overlap(before_a_wall([item])[0], figure.matte) > 0.8


def test_a_person_is_cut_out_before_a_camera_that_never_moves(tmp_path: Path) -> None:
    figure = person("boxing", "d01")
    room = cv2.GaussianBlur(np.random.default_rng(0).integers(120, 256, (48, 48, 3), np.uint8), (9, 9), 0)
    starts = (-12, 0, 8)
    found = before_one_camera(
        [film_of(figure, room, tmp_path / f"boxing/{k}.avi", s) for k, s in enumerate(starts)]
    )
    for one, start in zip(found, starts, strict=True):
        assert overlap(one, np.roll(figure.matte, start, axis=2)) > 0.7


def test_every_fold_leaves_something_else_out() -> None:
    left_out = [name for fold in FOLDS for name in fold]
    assert {f"s{k:02}" for k in range(1, 8)} <= set(left_out)
    assert {"dark", "red"} <= set(left_out)
    assert all(left_out.count(name) == 1 for name in left_out if name not in ("dark", "red"))


def test_what_a_fold_leaves_out_is_not_in_its_training(props: Props) -> None:
    people = [*props.people, person("boxing", "d03"), person("boxing", "d15")]
    item = Item(Path("pool.mp4"), "other", "pool")
    sources = webcam.Sources(people, props.stills, [(item, *props.films[0])])
    left = sources.props(("s01", "dark", "pool"))
    assert not {"s01", "dark"} & {name for p in left.people for name in names(p.group)}
    assert "d15" in {p.group for p in left.people}
    assert left.films == []
    assert len(sources.props(()).films) == 1


def test_webcam_training_repeats_itself_and_moves_the_weights(props: Props) -> None:
    with Progress(disable=True) as progress:
        a, b = (
            webcam.train(props, 2, 7, torch.device("cpu"), progress, "test").state_dict() for _ in range(2)
        )
    assert all(torch.equal(a[name], b[name]) for name in a)
    torch.manual_seed(7)
    fresh = webcam.WebcamLrcn(len(LABELS)).state_dict()
    assert not torch.equal(a["head.weight"], fresh["head.weight"])


def blobs(n: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    return torch.randn(n, 8, generator=generator) + 2 * torch.eye(3, 8)[y], y


def serve(x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    yield from zip(x.split(16), y.split(16), strict=True)


def small_fit(schedule: Schedule, seed: int = 0) -> tuple[nn.Module, list[float], list[float]]:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    train, held = blobs(96, 1), blobs(48, 2)
    with Progress(disable=True) as progress:
        history = fit(
            net, lambda: serve(*train), lambda: serve(*held), schedule, torch.ones(3), progress, "test"
        )
    return net, history.loss, history.validation_loss


def test_training_learns_and_the_best_weights_come_back() -> None:
    net, loss, held = small_fit(Schedule(epochs=60, batch=16, lr=0.05, patience=8))
    assert loss[-1] < 0.5 * loss[0]
    assert len(held) < 60  # overfits, and stops
    assert len(held) - 1 - int(np.argmin(held)) == 8
    logits, y = predict(net, lambda: serve(*blobs(48, 2)))
    assert float(nn.functional.cross_entropy(logits, y)) == pytest.approx(min(held), rel=1e-5)


def test_training_with_the_same_seed_repeats_itself() -> None:
    schedule = Schedule(epochs=3, batch=16, one_cycle=True)
    assert small_fit(schedule, 1)[1] == small_fit(schedule, 1)[1]
    assert small_fit(schedule, 1)[1] != small_fit(schedule, 2)[1]


def test_rare_classes_weigh_more() -> None:
    weights = class_weights(np.array([0, 0, 0, 1]), 3)
    assert weights[1] == pytest.approx(3 * weights[0])


def clip_folders(root: Path) -> Path:
    for label, start in (("Left", 0), ("Right", 200)):
        for group in range(1, 7):
            for clip in (1, 2):
                name = f"{label}/v_{label}_g{group:02}_c{clip:02}.avi"
                write_video(root / name, 12, seed=start + 7 * group + clip)
    return root


def tiny(frames: int = 4, by_frame: bool = False) -> VideoPreset:
    return VideoPreset(
        PRESETS["lrcn"].build, frames, 16, Schedule(epochs=1, batch=3), by_frame, ("speed", "flip")
    )


@pytest.mark.parametrize("seed", range(3))
def test_groups_never_mix_between_training_validation_and_test(tmp_path: Path, seed: int) -> None:
    found = examples(clip_folders(tmp_path), [], 4)
    parts = divide(found, tiny(), [], seed)
    groups = [{e.group for e in part} for part in parts]
    assert sum(len(g) for g in groups) == len(set.union(*groups)) == 6
    assert sum(len(p) for p in parts) == len(found) == 24


@pytest.mark.parametrize("groups", [1, 2])
def test_too_few_groups_to_train_validate_and_test_are_said(tmp_path: Path, groups: int) -> None:
    found = [
        Example(tmp_path / f"{c}_g{g}.avi", c, f"g{g}")
        for c in ("Left", "Right")
        for g in range(groups)
    ]  # fmt: skip
    with pytest.raises(HardError, match=rf"of {groups} group\(s\) give 0 to train.*; expected clips of four"):
        divide(found, tiny(), [], 0)


def test_what_class_folders_lack_is_said_of_what_they_hold(tmp_path: Path) -> None:
    """Of videos with one class amiss it said that the first class had no images."""
    folder = clip_folders(tmp_path)
    with pytest.raises(HardError, match=r"/Up: no videos"):
        examples(folder, ["Left", "Up"], 4)
    (tmp_path / "stills" / "Up").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "stills" / "Up" / "a.png"), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(HardError, match=r"stills: no class has 4 images, which make a clip"):
        examples(tmp_path / "stills", [], 4)


def test_groups_to_score_that_are_not_there_are_said(tmp_path: Path) -> None:
    with pytest.raises(HardError, match=r"no clips of g09; there is: g01, g02"):
        parts_of(clip_folders(tmp_path), ["g01", "g09"])


def test_classes_that_are_not_there_are_named(tmp_path: Path) -> None:
    for source in ("weizmann", "webcam_clips"):
        for label in ACTIVITIES:
            write_video(tmp_path / source / label / f"{label}_g01.avi", 12, seed=1)
    with pytest.raises(HardError, match="no clips of Left; there is: "):
        examples(tmp_path, ["Left"], 4)


def test_a_shirt_names_all_its_clips() -> None:
    found = [
        Example(Path(f"data/{root}/{label}/{label}_{group}.avi"), label, group)
        for root, label, groups in (
            ("weizmann", "bend", ("s01", "s02", "s06", "s07")),
            ("webcam_clips", "boxing", ("d01", "d02", "d11", "d20")),
        )
        for group in groups
    ]
    train, validation, test = divide(found, tiny(), [], 0)
    assert {e.group for e in test} == {"s06", "s07", "d11", "d20"}
    assert {e.group for e in train + validation} == {"s01", "s02", "d01", "d02"}


def test_batches_serve_each_clip_or_each_frame_once(tmp_path: Path) -> None:
    found = examples(clip_folders(tmp_path), ["Left"], 4)
    with Progress(disable=True) as progress:
        data = read(found, ["Left", "Right"], tiny(), progress)
    assert data.clips.shape == (12, 8, 16, 16, 3)
    clips = list(batches(data, tiny(), np.random.default_rng(0)))
    assert [len(y) for _, y in clips] == [3, 3, 3, 3]
    assert clips[0][0].shape == (3, 4, 3, 16, 16)
    assert 0 <= float(clips[0][0].min()) < float(clips[0][0].max()) <= 1
    frames = list(batches(data, tiny(by_frame=True)))
    assert sum(len(y) for _, y in frames) == 96
    assert frames[0][0].shape == (3, 3, 16, 16)


def test_figures_of_folds_together_are_those_of_all_their_examples() -> None:
    y, said = np.array([0, 1, 6, 6, 2]), np.array([0, 1, 6, 2, 2])
    whole = scores(y, said, LABELS)
    assert joined([scores(y[:2], said[:2], LABELS), scores(y[2:], said[2:], LABELS)]) == whole
    assert whole.accuracy == whole.micro.f1 == pytest.approx(0.8)
    assert whole.macro.recall == pytest.approx((1 + 1 + 1 + 0.5) / 4)


def test_the_command_trains_reports_and_plots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    from tools.train_video import main

    root, out = clip_folders(tmp_path / "UCF50"), tmp_path / "out"
    arguments = ["--preset", "lrcn", "--data", str(root), "--epochs", "1", "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["train_video.py", *arguments, "--device", "cpu"])
    main()
    assert {p.name for p in out.iterdir()} == {"checkpoint.pt", "confusion.png", "curves.png", "report.json"}
    report = json.loads((out / "report.json").read_text())
    assert report["epochs"] == 1
    assert report["test"]["n"] == 4 * round(6 * PRESETS["lrcn"].test)
    assert torch.load(out / "checkpoint.pt", weights_only=True)["labels"] == ["Left", "Right"]
