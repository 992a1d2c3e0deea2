"""The shape of the package: imports point one way, heavy packages stay at home, files stay small."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hard
from conftest import ROOT
from hard import registry

MODULES = sorted((ROOT / "hard").rglob("*.py"))
LAYERS = [
    {"types"},
    {"stats", "paths", "mqtt.packets", "mqtt.topics", "roster"},
    {"dsp", "frames", "codecs", "registry", "router", "handoff", "log", "journal", "synthetic"},
    {"novelty", "waiting", "memory"},
    {"personal.gait", "personal.profiles"},
    {"opencv", "footage", "overlay"},
    {"runtime"},
    {"settings", "card"},
    {"config"},
    {"track"},
    {"smoothing", "history", "stream", "align", "mqtt.address", "mqtt.retained", "totals"},
    {"recordings", "mqtt.pulse", "mqtt.assured", "mqtt.passwords", "sdnotify", "daemon.runfile"},
    {"imu", "model", "torchscript", "onnx", "placement", "recall", "personal.adapter"},
    {"mqtt.client", "mqtt.subscriptions", "mqtt.presence", "broker"},
    {"video"},
    {"recognizer", "embedded", "sources", "sinks", "phones", "nets"},
    {"engine", "table", "datasets", "listen", "devices", "welcome"},
    {"daemon.progress", "health", "daemon.intake", "video_engine", "console", "daemon.link"},
    {"daemon.metrics", "daemon.endpoint", "daemon.supervisor", "daemon.leftovers", "service"},
    {"daemon.outputs", "daemon.motion", "doctor"},
    {"daemon.sight", "daemon.reload", "bundle"},
    {"daemon.care"},
    {"app"},
    {"replay", "watch", "check", "personal.capture"},
    {"personal.calibrate", "personal.record"},
    {"personal.personalize"},
    {"cli"},
    {"__main__"},
]
"""An import may point to an earlier layer, or stay within its own; `hard` itself exports the Python door."""
SPREAD = {"mqtt", "daemon", "personal"}
HOME = {
    "torch": {"hard/torchscript.py", "hard/nets/"},
    "onnxruntime": {"hard/onnx.py"},
    "cv2": {
        "hard/doctor/frame.py",
        "hard/frames.py",
        "hard/footage.py",
        "hard/opencv.py",
        "hard/overlay.py",
        "hard/sources/webcam.py",
        "hard/sinks/display.py",
    },
    "paho": {
        "hard/broker.py",
        "hard/mqtt/assured.py",
        "hard/mqtt/client.py",
        "hard/mqtt/pulse.py",
        "hard/mqtt/subscriptions.py",
    },
    "serial": {"hard/sources/serial.py"},
    "prometheus_client": {"hard/daemon/metrics.py"},
}


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def unit(first: str, *others: str) -> str:
    """What has a layer: a module, or a package as a whole; of SPREAD, each module."""
    return ".".join([first, *others[:1]]) if first in SPREAD and others[:1] != ("__init__",) else first


def layer(module: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if module in names)


def test_every_module_has_a_layer() -> None:
    names = {unit(*p.relative_to(ROOT / "hard").with_suffix("").parts) for p in MODULES}
    assert names - {"__init__", *SPREAD} == set().union(*LAYERS)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    own = unit(*path.relative_to(ROOT / "hard").with_suffix("").parts)
    if own == "__init__":
        return
    used = {unit(*name.split(".")[1:]) for name in imports(path) if name.startswith("hard.")}
    assert {u for u in used if u in set().union(*LAYERS) and layer(u) > layer(own)} == set()


@pytest.mark.parametrize("package", HOME)
def test_heavy_packages_are_imported_in_their_home_only(package: str) -> None:
    users = {str(p.relative_to(ROOT)) for p in MODULES if any(n.split(".")[0] == package for n in imports(p))}
    assert {u for u in users if not any(u.startswith(home) for home in HOME[package])} == set()


@pytest.mark.parametrize(
    "command", ["import hard", "from hard import cli", "import hard.config, hard.registry"]
)
def test_import_loads_nothing_heavy(command: str) -> None:
    heavy = ("torch", "scipy", "cv2", "paho", "serial")
    code = f"import sys; {command}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_are_exported_and_sorted() -> None:
    assert hard.__all__ == sorted(hard.__all__)
    for name in hard.__all__:
        assert getattr(hard, name)


@pytest.mark.parametrize("kind", ["codecs", "sources", "sinks"])
def test_every_name_in_an_extension_table_resolves(kind: str) -> None:
    table = getattr(registry, kind.upper())
    for name in registry.names(kind, table):
        assert isinstance(registry.resolve(kind, table, name), type)


def test_a_wrong_extension_name_gets_the_nearest() -> None:
    with pytest.raises(hard.types.HardError, match="did you mean 'native'"):
        registry.resolve("codecs", registry.CODECS, "natve")


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package outside the tree with codecs of all kinds."""
    (tmp_path / "tree.py").write_text("class Outer:\n    class Codec: ...\n")
    (tmp_path / "wrong.py").write_text("from hard.types import Nothing\n")
    (tmp_path / "typo.py").write_text("def (\n")
    info = tmp_path / "forest-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: forest\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[hard.codecs]\nnested = tree:Outer.Codec\nextra = tree:Outer [fast]\nabsent = tree:Codec\n"
        "wrong = wrong:Codec\ntypo = typo:Codec\nmodule = tree\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("name", ["nested", "extra"])
def test_an_entry_point_of_any_form_resolves(name: str) -> None:
    assert isinstance(registry.resolve("codecs", registry.CODECS, name), type)


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("absent", "tree:Codec of forest, does not load: module 'tree' has no attribute 'Codec'; mend"),
        ("wrong", "wrong:Codec of forest, does not load: cannot import name 'Nothing'.*; mend or uninstall"),
        ("typo", "typo:Codec of forest, does not load: invalid syntax.*typo.py, line 1"),
        ("module", "tree of forest, is no class; write module:Class"),
    ],
)
def test_an_extension_that_does_not_load_is_named(name: str, why: str) -> None:
    with pytest.raises(hard.types.HardError, match=f"codec '{name}', {why}"):
        registry.resolve("codecs", registry.CODECS, name)


def test_files_stay_small() -> None:
    files = [*MODULES, *(ROOT / "tools").glob("*.py"), *(ROOT / "tests").glob("*.py")]
    assert {str(p): n for p in files if (n := len(p.read_text("utf-8").splitlines())) > 400} == {}


def test_type_checkers_of_other_projects_read_our_types() -> None:
    assert (Path(hard.__file__).parent / "py.typed").is_file()
