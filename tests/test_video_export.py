"""The shipped video model is what was trained, the daemon's two steps say what whole clips say."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from hard.card import VideoCard, read_card
from hard.datasets import CHECKOUT
from hard.datasets.video import ACTIVITIES
from hard.model import load_video_model
from hard.nets.webcam import WebcamLrcn
from hard.types import U8, HardError
from tools.export_video import NAME, export, new_card
from tools.video_score import films, parts_of, score_films
from tools.webcam import CLIP, HELD_OUT, LABELS

COMMITTED = CHECKOUT / "models" / NAME


class Treacherous(WebcamLrcn):
    """Says something else once it is scripted, by a little more than is allowed."""

    @torch.jit.export
    def classify(self, embeddings: Tensor) -> Tensor:
        found = torch.softmax(self.logits(embeddings), dim=1)
        return found + 3e-5 if torch.jit.is_scripting() else found


def clips(n: int) -> U8:
    return np.random.default_rng(1).integers(0, 256, (n, 20, 64, 64, 3), np.uint8)


def test_an_exported_network_says_of_clips_what_the_trained_one_says(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = WebcamLrcn(len(LABELS)).eval()
    written = export(net, new_card(net, {}, []), tmp_path / "small", clips(1))
    model = load_video_model(str(tmp_path / "small"))
    assert model.card.sha256 == written.sha256
    x = clips(3)
    kept = np.stack([np.concatenate([model.encode(f[None]) for f in clip]) for clip in x])
    with torch.no_grad():
        whole = torch.softmax(net(torch.from_numpy(x)), dim=1).numpy()
    np.testing.assert_allclose(model.classify(kept), whole, atol=1e-5)


def test_a_network_that_scripting_changes_is_not_written(tmp_path: Path) -> None:
    net = Treacherous(len(LABELS)).eval()
    with pytest.raises(HardError, match="differs from the trained one"):
        export(net, new_card(net, {}, []), tmp_path / "small", clips(1))
    assert not (tmp_path / "small").exists()


def test_the_committed_model_is_small_and_its_card_names_commands() -> None:
    card = read_card(COMMITTED)
    assert isinstance(card, VideoCard)
    assert card.labels == [*ACTIVITIES, "other"]
    assert card.clip == CLIP
    assert (COMMITTED / "model.pt").stat().st_size < 1_000_000
    assert all(f.command.startswith("python tools/") for f in card.figures)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = load_video_model(NAME)
    still = np.broadcast_to(clips(1)[0, :1], (20, 64, 64, 3))
    p = model.classify(model.encode(np.ascontiguousarray(still))[None])
    assert LABELS[int(p.argmax())] == "other"  # where nothing moves, nobody does anything


@pytest.mark.data
def test_the_committed_model_reaches_what_its_card_claims_of_clips_it_has_not_seen(data: Path) -> None:
    model = load_video_model(NAME)
    claimed = {f.data: f for f in model.card.figures if "these weights" in f.data}
    assert len(claimed) == 4
    for source, items in parts_of(data, HELD_OUT).items():
        part = score_films(model, films(items, CLIP), LABELS, CLIP)
        for unit, found in (("whole clips", part.clips), ("windows", part.windows)):
            figure = next(f for name, f in claimed.items() if name.startswith(unit) and _is(source, name))
            assert found.n == figure.n
            assert found.accuracy == pytest.approx(figure.value, abs=1e-4)


def _is(source: str, name: str) -> bool:
    return {"weizmann": "Weizmann", "webcam_clips": "webcam clips"}[source] in name
