"""Model folders: finding them, and reading the card that says what a model wants and what it reached."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

import msgspec

from hard.types import Clip, HardError, MotionRange, Windowing, Worn


class Figure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One measured number, with the command that gives it."""

    metric: str
    value: float
    data: str
    command: str
    n: int | None = None


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind"):
    """models/<name>/card.yaml: what every model says of itself."""

    name: str
    summary: str
    labels: list[str]
    sha256: str  # of model.pt
    parameters: int
    input: str  # shape and units
    output: str
    training: dict[str, str]
    figures: list[Figure]
    intended_use: str
    limitations: list[str]
    licence: str
    format: str = "torchscript"  # which loader in model.py reads the weights


class SensorCard(Card, frozen=True, kw_only=True, tag="sensor"):
    """A model of windows of motion."""

    channels: list[str]
    windowing: Windowing
    onnx_sha256: str | None = None  # of model.onnx; None: there is none
    motion_range: MotionRange | None = None  # beyond it the activity is `unknown`; None: no bound
    worn: Worn | None = None  # None: anyhow
    gyro_optional: bool = False  # made for devices without a gyroscope too, of which its channels are zero
    state: int = 0  # numbers that the model carries from a device's window to its next; see model.Model
    averaging_s: float | None = None
    """The smoother averages its answers for no longer, since the model itself averages what it sees of a
    device with a gyroscope; None: for as long as is configured."""

    @property
    def needs_gyroscope(self) -> bool:
        return not self.gyro_optional and any(name.startswith("gyro_") for name in self.channels)


class VideoCard(Card, frozen=True, kw_only=True, tag="video"):
    """A model of clips of camera frames."""

    clip: Clip


def model_dirs() -> list[Path]:
    """Where models are looked for: HARD_MODELS, the installed package, the checkout."""
    here = Path(__file__).resolve().parent
    named = [Path(p) for p in os.environ.get("HARD_MODELS", "").split(os.pathsep) if p]
    return [d for d in (*named, here / "models", here.parent / "models") if d.is_dir()]


def list_models() -> list[Path]:
    """Folders of all models found, by name; an earlier place wins."""
    found: dict[str, Path] = {}
    for place in model_dirs():
        for card in sorted(place.glob("*/card.yaml")):
            found.setdefault(card.parent.name, card.parent)
    return [found[name] for name in sorted(found)]


def find_model(name: str) -> Path:
    """The folder of a model given by name or by path."""
    if (Path(name) / "card.yaml").is_file():
        return Path(name)
    models = {path.name: path for path in list_models()}
    if name in models:
        return models[name]
    near = difflib.get_close_matches(name, models, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there is: {', '.join(models) or 'none'}"
    raise HardError(f"no model named {name!r}; {hint} (`hard models` lists them)")


def read_card(folder: Path) -> SensorCard | VideoCard:
    """The card of a model folder; raises HardError with the file and what is wrong in it."""
    import yaml

    path = folder / "card.yaml"
    try:
        card = msgspec.convert(yaml.safe_load(path.read_text("utf-8")), SensorCard | VideoCard)
    except FileNotFoundError:
        raise HardError(f"{path}: no such file; a model is a folder with model.pt and card.yaml") from None
    except (yaml.YAMLError, msgspec.ValidationError) as e:
        raise HardError(f"{path}: {' '.join(str(e).split())}") from None
    return card
