"""A bundle is data: whatever its manifest says, it is checked before anything is loaded."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.bundle.folder import load_bundle
from edge_runtime.bundle.manifest import dump_manifest, parse_manifest
from edge_runtime.bundle.shipped import SHIPPED
from edge_runtime.errors import BundleError, EngineError, InvalidValueError
from edge_runtime.screener import Screener
from tests.conftest import ROOT

jsonschema = pytest.importorskip("jsonschema")
SCHEMA = ROOT / "edge_runtime" / "schemas" / "bundle-1.schema.json"


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "bundle"))


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = folder / "manifest.json"
    document = json.loads(file.read_text(encoding="utf-8"))
    change(document)
    file.write_text(json.dumps(document), encoding="utf-8")


def test_the_default_bundle_is_whole(bundle: Path) -> None:
    opened = load_bundle(bundle)
    opened.verify_files()
    assert {f.path for f in opened.manifest.files} == {
        p.name for p in bundle.iterdir() if p.name != "manifest.json"
    }
    assert sum(p.stat().st_size for p in bundle.iterdir()) < 10_000_000


def test_the_manifest_satisfies_its_schema(bundle: Path) -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    document = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    jsonschema.validate(document, schema)


def test_parsing_and_dumping_are_inverse(bundle: Path) -> None:
    text = (bundle / "manifest.json").read_bytes()
    assert dump_manifest(parse_manifest(text)) == text


# Each change, and what the message must name.
TAMPERED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "another schema": (lambda d: d.update(schema="cxr-edge/bundle/9"), "bundle/9"),
    "unknown key": (lambda d: d.update(hook="os.system"), "hook"),
    "missing key": (lambda d: d.pop("labels"), "labels"),
    "wrong type": (lambda d: d["calibration"].update(temperature="warm"), "warm"),
    "boolean for a number": (lambda d: d["input"].update(height=True), "height"),
    "huge input": (lambda d: d["input"].update(height=10**9), "1000000000"),
    "path outside": (lambda d: d["files"][0].update(path="../../etc/passwd"), "plain name"),
    "absolute path": (lambda d: d["files"][0].update(path="/etc/passwd"), "plain name"),
    "file twice": (lambda d: d["files"].append(d["files"][0]), "twice"),
    "huge file": (lambda d: d["files"][0].update(size_bytes=10**15), "size_bytes"),
    "negative size": (lambda d: d["files"][0].update(size_bytes=-1), "size_bytes"),
    "no hash": (lambda d: d["files"][0].update(sha256="none"), "sha256"),
    "unknown format": (lambda d: d["files"][0].update(format="pickle"), "pickle"),
    "threshold": (lambda d: d["operating_points"][0].update(threshold=1.5), "1.5"),
    "band": (lambda d: d["operating_points"][0].update(uncertain=[0.9, 0.95]), "uncertain"),
    "temperature": (lambda d: d["calibration"].update(temperature=0), "temperature"),
    "default point": (lambda d: d.update(default_operating_point="x"), "'x'"),
    "activation": (lambda d: d["outputs"].update(activation="relu"), "relu"),
    "known answer": (lambda d: d["known_answers"][0].update(image_base64="%%"), "base64"),
    "units": (lambda d: d["outputs"].update(map_shape=[5, 5, 2]), "map_shape"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_tampered_manifest_is_refused_by_name(copy: Path, name: str) -> None:
    change, said = TAMPERED[name]
    edit(copy, change)
    with pytest.raises(BundleError, match=said):
        load_bundle(copy)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_a_manifest_that_is_no_manifest_is_refused(copy: Path, text: bytes) -> None:
    (copy / "manifest.json").write_bytes(text)
    with pytest.raises(BundleError, match=r"manifest\.json"):
        load_bundle(copy)


def test_a_huge_manifest_is_refused_unread(copy: Path) -> None:
    with open(copy / "manifest.json", "ab") as file:
        file.truncate(10**9)
    with pytest.raises(BundleError, match="larger"):
        load_bundle(copy)


@pytest.mark.parametrize("engine", ["litert", "onnxruntime"])
def test_one_flipped_bit_in_a_model_is_found_before_it_is_loaded(copy: Path, engine: str) -> None:
    pytest.importorskip({"litert": "ai_edge_litert", "onnxruntime": "onnxruntime"}[engine])
    model = copy / {"litert": "model.tflite", "onnxruntime": "model.onnx"}[engine]
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    with pytest.raises(BundleError, match="SHA-256"):
        Screener.load(copy, engine=engine)


def test_a_truncated_missing_or_linked_model_is_refused(copy: Path, tmp_path: Path) -> None:
    opened = load_bundle(copy)
    file = opened.manifest.files[0]
    path = copy / file.path
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(BundleError, match="bytes, the manifest says"):
        opened.read(file)
    path.unlink()
    with pytest.raises(BundleError, match="No such file"):
        opened.read(file)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(content)
    path.symlink_to(elsewhere)
    with pytest.raises(BundleError, match="regular file"):
        opened.read(file)


def test_wrong_scores_are_noticed_at_load(copy: Path) -> None:
    def shift(document: dict[str, Any]) -> None:
        logits = document["known_answers"][0]["logits"]
        for family in logits:
            logits[family] = [value + 1.5 for value in logits[family]]

    edit(copy, shift)
    with pytest.raises(EngineError, match=r"off by 1\.5"):
        Screener.load(copy)


def test_another_preprocessing_is_noticed_at_load(copy: Path) -> None:
    other = hashlib.sha256(b"other").hexdigest()
    edit(copy, lambda d: d["known_answers"][0].update(tensor_sha256=other))
    with pytest.raises(EngineError, match="decodes or resizes differently"):
        Screener.load(copy)


def test_a_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not a model bundle"):
        load_bundle(tmp_path)


def test_an_unknown_operating_point_is_refused_with_those_there_are(bundle: Path) -> None:
    with pytest.raises(InvalidValueError, match="screening, balanced"):
        Screener.load(bundle, operating_point="strict")


def test_a_shipped_name_is_a_bundle_and_a_path_is_a_folder(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_bundle("default").sha256 == load_bundle().sha256 == load_bundle(bundle).sha256
    for name in SHIPPED:
        assert load_bundle(name).manifest.version
    with pytest.raises(BundleError, match="is not a model bundle"):
        load_bundle("./small")
    with pytest.raises(BundleError, match="is not a model bundle"):
        load_bundle(Path("small"))
    (tmp_path / "small").mkdir()  # a folder of films, say
    load_bundle("small")
    (tmp_path / "small" / "manifest.json").write_text("{}")
    with pytest.raises(BundleError, match=r"write \./small for the folder"):
        load_bundle("small")


def test_shipped_bundles_are_told_apart_and_small() -> None:
    manifests = {name: load_bundle(name).manifest for name in SHIPPED}
    assert len({m.name for m in manifests.values()}) == 3
    # A model that changes alone leaves the others' versions, and with them their site profiles.
    assert len({m.version.split(".")[0] for m in manifests.values()}) == 1
    files = {n: sum(f.size_bytes for f in m.files) for n, m in manifests.items()}
    assert files["small"] + files["tiny"] < 4_000_000
    for manifest in manifests.values():
        assert manifest.quality is not None and len(manifest.known_answers) >= 3


def test_a_refused_quality_gate_or_reference_is_named_by_its_place(bundle: Path) -> None:
    document = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    document["quality"]["features"]["components_base64"] = "AAA"
    with pytest.raises(BundleError, match=r"^manifest\.json: quality: features: "):
        parse_manifest(json.dumps(document).encode())
    document = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    document["reference"]["refused"] = -1
    with pytest.raises(BundleError, match=r"^manifest\.json: reference: -1 refused"):
        parse_manifest(json.dumps(document).encode())
