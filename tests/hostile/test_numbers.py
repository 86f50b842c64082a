"""Numbers from outside, in options and in files: finite, in range, and named where they are not."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path

import pytest

from edge_runtime.basics.parse import from_mapping
from edge_runtime.bundle.folder import load_bundle
from edge_runtime.bundle.manifest import dump_manifest
from edge_runtime.bundle.site_profile import SiteProfile, load_profile
from edge_runtime.cli import VERBS
from edge_runtime.errors import BundleError, InvalidValueError
from edge_runtime.images.preprocess import InputSpec
from tests.conftest import Run

NEVER = ("nan", "inf", "-inf", "1e400", "", "x", "-1e9", "9" * 400, "0x10", "1_0_0_")


def numeric_options() -> list[tuple[str, str]]:
    """(verb, option) of every option of every verb that takes a number."""
    found = []
    for verb, (module, _) in VERBS.items():
        parser = argparse.ArgumentParser()
        importlib.import_module(module).add_arguments(parser)
        for action in parser._actions:
            # Their types are functions of ours; `int` and `float` would let anything by.
            assert action.type not in (int, float), (verb, action.option_strings)
            if action.type is not None and action.option_strings:
                try:
                    number = action.type("1")  # type: ignore[operator]
                except argparse.ArgumentTypeError:
                    continue
                if isinstance(number, int | float):
                    found.append((verb, action.option_strings[0]))
    return found


def test_there_are_numeric_options_to_look_at() -> None:
    assert len(numeric_options()) > 20


@pytest.mark.parametrize(("verb", "option"), numeric_options())
def test_no_option_takes_what_is_no_number_in_range(verb: str, option: str) -> None:
    parser = argparse.ArgumentParser()
    importlib.import_module(VERBS[verb][0]).add_arguments(parser)
    action = next(a for a in parser._actions if option in a.option_strings)
    assert callable(action.type)
    for text in NEVER:
        with pytest.raises((argparse.ArgumentTypeError, ValueError)):
            action.type(text)


@pytest.mark.parametrize(
    "arguments",
    [
        ("listen", "--spool", "s", "--output", "o", "--port", "99999"),
        ("listen", "--spool", "s", "--output", "o", "--ae-title", "A" * 26),
        ("listen", "--spool", "s", "--output", "o", "--ae-title", ""),
        ("serve", "--port", "-5"),
        ("serve", "--timeout", "nan"),
        ("serve", "--queue", "-5"),
        ("watch", "x", "--output", "o", "--interval", "1e400"),
        ("watch", "x", "--output", "o", "--settle", "nan"),
    ],
)
def test_the_program_ends_with_wrong_usage(arguments: tuple[str, ...], cxr_edge: Run) -> None:
    result = cxr_edge(*arguments)
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert arguments[-2] in result.stderr


def test_costs_are_finite(cxr_edge: Run) -> None:
    for text in ("nan,1", "1,inf", "1e400,1", "0,1", "1", "a,b"):
        result = cxr_edge(
            "calibrate", "--images", "x", "--labels", "y", "--prevalence", "0.1", "--costs", text
        )
        assert result.returncode == 2 and "Traceback" not in result.stderr, text


def places(document: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """Every number of a document, one of each long list."""
    if isinstance(document, dict):
        return [p for key, value in document.items() for p in places(value, (*path, key))]
    if isinstance(document, list):
        return [p for i, value in enumerate(document[:2]) for p in places(value, (*path, i))]
    number = isinstance(document, int | float) and not isinstance(document, bool)
    return [path] if number else []


def changed(document: dict[str, object], path: tuple[object, ...], value: object) -> str:
    copy = json.loads(json.dumps(document))
    place = copy
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(copy).replace('"HUGE"', "1" + "0" * 400)


def test_no_number_of_a_manifest_may_be_none(tmp_path: Path) -> None:
    document = json.loads(dump_manifest(load_bundle().manifest))
    document.pop("provenance")  # of any form, and nobody computes with it
    found = places(document)
    assert len(found) > 60
    for path in found:
        for value in (float("nan"), float("inf"), "HUGE"):
            whole = document | {"provenance": {}}
            (tmp_path / "manifest.json").write_text(changed(whole, path, value))
            with pytest.raises(BundleError):
                load_bundle(tmp_path)


@pytest.mark.parametrize("value", [1e-320, -1.0, 0.0])
def test_what_is_divided_by_is_not_nothing(value: float, tmp_path: Path) -> None:
    document = json.loads(dump_manifest(load_bundle().manifest))
    for path in (("quality", "features", "residual"), ("quality", "features", "limit"),
                 ("quality", "features", "scales", 0), ("calibration", "temperature")):  # fmt: skip
        (tmp_path / "manifest.json").write_text(changed(document, path, value))
        with pytest.raises(BundleError):
            load_bundle(tmp_path)


@pytest.mark.parametrize(
    "band", [[-5, 7], [0.9, 0.1], [float("nan"), float("nan")], [0.0, float("inf")]]
)
def test_the_grey_band_of_a_profile_is_one_of_probabilities(
    band: list[float], profile: dict[str, object], tmp_path: Path
) -> None:
    path = tmp_path / "site.json"
    path.write_text(json.dumps(profile))
    load_profile(path)
    path.write_text(changed(profile, ("operating_point", "uncertain"), band))
    with pytest.raises(InvalidValueError):
        load_profile(path)


def test_no_profile_borrows_the_name_of_a_bundles_point(
    profile: dict[str, object], tmp_path: Path
) -> None:
    path = tmp_path / "site.json"
    for name in ("screening", "balanced", "triage"):
        path.write_text(changed(profile, ("operating_point", "name"), name))
        with pytest.raises(InvalidValueError, match="could not tell them apart"):
            load_profile(path)


def test_no_number_of_a_profile_may_be_none(profile: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "site.json"
    for place in places(profile):
        for value in (float("nan"), float("inf"), "HUGE"):
            path.write_text(changed(profile, place, value))
            with pytest.raises(InvalidValueError):
                load_profile(path)


def test_integers_of_many_digits_are_named_not_written_out() -> None:
    with pytest.raises(InvalidValueError, match="many digits"):
        from_mapping(InputSpec, {"height": 10**5000, "width": 64}, "input")


@pytest.fixture
def profile() -> dict[str, object]:
    estimate = {"value": 0.5, "low": 0.4, "high": 0.6}
    manifest = json.loads(dump_manifest(load_bundle().manifest))
    fields = {
        "schema": "cxr-edge/site-profile/1", "name": "site", "bundle_sha256": "0" * 64,
        "model": "m", "engine": "e", "engine_family": "litert", "images": 10, "positives": 5,
        "refused": 0, "prevalence": 0.1, "temperature": 1.0, "temperature_refitted": False,
        "auc": estimate, "strata": [], "reference": manifest["reference"],
        "operating_point": {"name": "site", "threshold": 0.5, "rule": "r", "split": "site",
                            "sensitivity": estimate, "specificity": estimate, "uncertain": None},
        "correction": {"source": "labels", "slope": 0.5, "bias": 0.1, "weights_base64": "",
                       "strength": 3.0, "before": estimate, "within": estimate, "facts": estimate},
    }  # fmt: skip
    import dataclasses

    from edge_runtime.bundle import site_profile

    fields["schema"] = site_profile.SCHEMA
    row = {f.name: estimate for f in dataclasses.fields(site_profile.ThresholdRow)}
    row |= {f.name: 0.5 for f in dataclasses.fields(site_profile.ThresholdRow) if f.type == "float"}
    row |= {f.name: 5 for f in dataclasses.fields(site_profile.ThresholdRow) if f.type == "int"}
    assert {f.name for f in dataclasses.fields(SiteProfile)} == {*fields, "chosen"}
    return fields | {"chosen": row}
