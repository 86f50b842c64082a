"""What a data folder holds and what is wrong with it, before anything is trained on it.

    python -m train audit --data chest_xray --output build/audit

writes audit.json, shortcuts.svg and index.html, which opens offline. `--data` is what `fit` takes:
a folder with train/, val/ and test/, a single part with NORMAL/ and PNEUMONIA/, or a table of
films, whose sources then stand for parts; it may be given several times.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from tqdm import tqdm

from edge_runtime.basics.parse import to_mapping
from edge_runtime.errors import ImageError, InvalidValueError
from edge_runtime.images.film_facts import FULL_SIZE, film_facts
from edge_runtime.images.grey import read_grey
from edge_runtime.images.preprocess import InputSpec
from train.audit.probe import FEWEST as PROBED
from train.audit.probe import Probe, features_of, probe_features
from train.audit.shortcuts import Shortcut, measure_shortcuts
from train.data.dataset import NORMAL, Sample
from train.data.duplicates import NEAR_BITS, Pair, near_pairs, perceptual_hash
from train.data.facts import thumbnail
from train.data.fields import Fields
from train.data.judged import graft_judged
from train.data.source import Source
from train.data.table import read_table, told_guesses
from train.page import Page
from train.run.folder import write_json

SCHEMA = "cxr-edge/audit/1"
_SHOWN = 12  # pictures in each gallery


@dataclasses.dataclass(frozen=True)
class Examined:
    """One readable file."""

    sample: Sample
    part: str
    sha256: str
    height: int
    width: int
    features: dict[str, float]
    hash: NDArray[np.bool_]
    thumbnail: NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Unreadable:
    path: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Count:
    """Images and patients of one kind in one part."""

    part: str
    kind: str
    images: int
    patients: int


@dataclasses.dataclass(frozen=True)
class Duplicate:
    """Two files with the same picture, or nearly; `distance` in bits of 256, 0 for equal bytes."""

    first: str
    second: str
    distance: int
    same_bytes: bool
    across_parts: bool
    across_classes: bool
    across_patients: bool


@dataclasses.dataclass(frozen=True)
class Audit:
    """All findings; audit.json."""

    schema: str
    counts: tuple[Count, ...]
    unreadable: tuple[Unreadable, ...]
    ignored: tuple[str, ...]  # files that are no images by name
    patients_across_parts: tuple[str, ...]
    duplicates: tuple[Duplicate, ...]
    shortcuts: dict[str, tuple[Shortcut, ...]]  # by part, where both classes are present
    probes: tuple[Probe, ...] = ()  # of normal films, where a run was given


def run_audit(
    data: Sequence[Path],
    output: Path,
    fields: Fields | None = None,
    runs: Sequence[Path] = (),
    patient_pattern: str = "",
    findings: Mapping[str, str] | None = None,
) -> Audit:
    """Read every file of `data`, write the report into `output`.

    Args:
        data: Data sets.
        output: Folder of the report.
        fields: Where the lungs are, for pictures of grafts.
        runs: Finished runs whose features are probed.
        patient_pattern: What in a path names the patient, where no column says it.
        findings: What findings are called, as a recipe says it; one that leaves films out keeps
            its own name here.

    Raises:
        InvalidValueError: `data` has none of the folders that are expected, a table cannot be
            read, or a run is not finished.
    """
    listed = _list(data, patient_pattern, findings or {})
    if listed.guesses:
        tqdm.write(listed.guesses)
    found, unreadable, ignored = _examine(listed)
    if not found:
        raise InvalidValueError(
            f"{listed.root}: none of {len(unreadable)} files can be read as an image"
        )
    if all(item.sample.kind != NORMAL for item in found):
        tqdm.write(
            "no film is called normal, so nothing is said of what tells the classes apart: name "
            "the recipe whose data.findings says what is (--recipe)"
        )
    pairs = near_pairs(np.stack([item.hash for item in found]))
    audit = Audit(
        SCHEMA,
        _count(found),
        tuple(unreadable),
        tuple(ignored),
        _patients_across_parts(found),
        tuple(_duplicate(found, pair) for pair in pairs),
        {part: shortcuts for part in _parts(found) if (shortcuts := _shortcuts(found, part))},
        tuple(_probe(run, found, listed.source) for run in runs),
    )
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / "audit.json", to_mapping(audit))
    figure = draw_shortcuts(audit.shortcuts)
    if figure is not None:
        matplotlib.rcParams["svg.hashsalt"] = "cxr-edge"  # the same figures give the same file
        figure.savefig(output / "shortcuts.svg", metadata={"Date": None})
    _write_page(audit, found, listed, fields, output / "index.html")
    print(summary(audit))
    return audit


def summary(audit: Audit) -> str:
    """The findings in a few lines."""
    duplicates = audit.duplicates
    lines = [f"{c.part:6} {c.kind:10} {c.images:5} images {c.patients:5} patients"
             for c in audit.counts]  # fmt: skip
    lines += [
        f"unreadable files: {len(audit.unreadable)}; other files: {len(audit.ignored)}",
        f"patients in more than one part: {len(audit.patients_across_parts)}",
        f"pairs of equal files: {sum(d.same_bytes for d in duplicates)}; of near-equal pictures "
        f"(at most {NEAR_BITS} of 256 bits): {sum(not d.same_bytes for d in duplicates)}; of both "
        f"kinds, across parts {sum(d.across_parts for d in duplicates)}, across classes "
        f"{sum(d.across_classes for d in duplicates)}",
    ]
    lines += [
        f"{p.run}: of {p.films} normal films, features tell the source with "
        f"{p.balanced_accuracy:.3f} (chance {p.chance:.3f})"
        for p in audit.probes
    ]
    for part, shortcuts in audit.shortcuts.items():
        listed = ", ".join(f"{s.name} {s.auc}" for s in shortcuts[:4])
        lines.append(f"{part}: what tells the classes apart alone (AUC): {listed}")
    return "\n".join(lines)


def draw_shortcuts(shortcuts: dict[str, tuple[Shortcut, ...]]) -> Figure | None:
    """AUC of every trivial feature, a bar with its interval for each part; None without any."""
    if not shortcuts:
        return None
    names = sorted(
        {s.name for part in shortcuts.values() for s in part},
        key=lambda name: max(s.auc.value for p in shortcuts.values() for s in p if s.name == name),
    )
    figure = Figure(figsize=(8, 0.5 * len(names) + 1.5), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(shortcuts)
    for i, (part, values) in enumerate(shortcuts.items()):
        for s in values:
            y = names.index(s.name) + 0.4 - (i + 0.5) * height
            label = part if s is values[0] else None
            axes.barh(y, s.auc.value - 0.5, height, left=0.5, color=f"C{i}", label=label)
            axes.plot([s.auc.low, s.auc.high], [y, y], color="black", linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlim=(0.5, 1), xlabel="AUC of the feature alone (0.5 tells nothing), 95 % interval")
    axes.legend(loc="lower right")
    axes.grid(axis="x", alpha=0.3)
    return figure


@dataclasses.dataclass(frozen=True)
class _Listed:
    """What there is to read."""

    root: Path
    files: tuple[tuple[str, Sample], ...]  # part, and the film
    ignored: tuple[str, ...]
    source: Source
    guesses: str  # what is to be said of patients that are guessed; "" of none


def _list(data: Sequence[Path], patient_pattern: str, findings: Mapping[str, str]) -> _Listed:
    """Films of tables as the tables say, of folders as they lie there."""
    named = {finding: kind for finding, kind in findings.items() if kind}
    table = read_table(data, named, patient_pattern)
    several = len({f.source for f in table.films}) > 1
    files = [
        (f.source if several and not f.part else f.part or "all", f.sample) for f in table.films
    ]
    known = {f.sample.path for f in table.films}
    folders = {(table.root / path).parent for path in known}
    ignored = sorted(
        path
        for folder in folders
        for file in folder.iterdir()
        if file.is_file() and (path := file.relative_to(table.root).as_posix()) not in known
    )
    told = told_guesses(table)
    return _Listed(table.root, tuple(files), tuple(ignored), Source.of(table), told)


def _examine(listed: _Listed) -> tuple[list[Examined], list[Unreadable], list[str]]:
    found: list[Examined] = []
    unreadable: list[Unreadable] = []
    for part, sample in tqdm(listed.files, "reading", unit="file", leave=False, disable=None):
        try:
            content = (listed.root / sample.path).read_bytes()
            grey, facts = read_grey(content, FULL_SIZE)
        except (ImageError, OSError) as error:
            unreadable.append(Unreadable(sample.path, str(error)))
            continue
        found.append(
            Examined(
                sample,
                part,
                hashlib.sha256(content).hexdigest(),
                facts.height,
                facts.width,
                film_facts(len(content), grey),
                perceptual_hash(grey),
                thumbnail(grey),
            )
        )
    return found, unreadable, list(listed.ignored)


def _probe(run: Path, found: Sequence[Examined], source: Source) -> Probe:
    """The run's features of whole normal films; sources with few of these are left out.

    Raises:
        InvalidValueError: Not a finished run, or there are not two sources with normal films.
    """
    whole = [item for item in found if item.sample.kind == NORMAL and source.is_whole(item.sample)]
    counts = collections.Counter(source.name_of(item.sample) for item in whole)
    whole = [item for item in whole if counts[source.name_of(item.sample)] >= PROBED]
    if len({source.name_of(item.sample) for item in whole}) < 2:
        raise InvalidValueError(
            f"--run needs at least two sources with {PROBED} normal films each, to be told apart"
        )
    facts = {name: np.array([item.features[name] for item in whole]) for name in whole[0].features}
    return probe_features(
        features_of(run, source, [item.sample for item in whole]),
        [source.name_of(item.sample) for item in whole],
        facts,
        [item.sample.patient for item in whole],
        run.name,
    )


def _parts(found: Sequence[Examined]) -> list[str]:
    return list(dict.fromkeys(item.part for item in found))


def _count(found: Sequence[Examined]) -> tuple[Count, ...]:
    groups: dict[tuple[str, str], list[str]] = {}
    for item in found:
        groups.setdefault((item.part, item.sample.kind), []).append(item.sample.patient)
    return tuple(
        Count(part, kind, len(patients), len(set(patients)))
        for (part, kind), patients in groups.items()
    )


def _patients_across_parts(found: Sequence[Examined]) -> tuple[str, ...]:
    parts: dict[str, set[str]] = collections.defaultdict(set)
    for item in found:
        parts[f"{item.sample.patient} ({item.sample.kind})"].add(item.part)
    return tuple(sorted(patient for patient, where in parts.items() if len(where) > 1))


def _duplicate(found: Sequence[Examined], pair: Pair) -> Duplicate:
    a, b = found[pair.first], found[pair.second]
    return Duplicate(
        a.sample.path,
        b.sample.path,
        pair.distance,
        a.sha256 == b.sha256,
        a.part != b.part,
        (a.sample.kind == "normal") != (b.sample.kind == "normal"),
        a.sample.patient != b.sample.patient,
    )


def _shortcuts(found: Sequence[Examined], part: str) -> tuple[Shortcut, ...]:
    items = [item for item in found if item.part == part]
    positive = np.array([item.sample.kind != "normal" for item in items], dtype=np.int64)
    if min(positive.sum(), len(positive) - positive.sum()) < 20:
        return ()  # no interval worth a bar
    features = {
        name: np.array([item.features[name] for item in items]) for name in items[0].features
    }
    thumbnails = np.stack([item.thumbnail for item in items])
    patients = [item.sample.patient for item in items]
    return tuple(measure_shortcuts(positive, features, thumbnails, patients))


def _write_page(
    audit: Audit, found: Sequence[Examined], listed: _Listed, fields: Fields | None, path: Path
) -> None:
    data = listed.root
    page = Page(f"Data audit: {data.name}")
    page.heading("Images and patients")
    page.table(
        ("part", "kind", "images", "patients"),
        [(c.part, c.kind, c.images, c.patients) for c in audit.counts],
    )
    if listed.guesses:
        page.text(listed.guesses)
    overview = _draw_overview(found)
    page.plot(overview, "Brightness and size by class")
    page.heading("Shortcuts")
    page.text(
        "How well a feature that is no medicine tells pneumonia from normal alone. A model can "
        "learn any of these; what it then knows ends where scanners and compression change."
    )
    figure = draw_shortcuts(audit.shortcuts)
    if figure is not None:
        page.plot(figure, "AUC of trivial features")
    for part, shortcuts in audit.shortcuts.items():
        page.table(
            (f"feature ({part})", "AUC (95 %)", "larger means"),
            [(s.name, str(s.auc), "pneumonia" if s.direction > 0 else "normal") for s in shortcuts],
        )
    if audit.probes:
        page.heading("What a model's features tell of normal films")
        page.text(
            "A linear model on the pooled features, on patients that it was not fitted on. Telling "
            "the source, balanced accuracy beside chance; of the film's facts, the share of their "
            "variance. What can be told can be used instead of disease."
        )
        names = list(audit.probes[0].facts)
        page.table(
            ("run", "normal films", "sources", "source told", "chance", *names),
            [(p.run, p.films, len(p.sources), f"{p.balanced_accuracy:.3f}", f"{p.chance:.3f}",
              *(f"{p.facts.get(name, 0):.2f}" for name in names)) for p in audit.probes],
        )  # fmt: skip
    grafts = list(_grafts(listed, fields)) if fields is not None else []
    if grafts:
        page.heading("Grafts")
        page.text(
            "Lungs that were cut out, in the frames of whole films; outlined, findings that "
            "somebody marked."
        )
        page.gallery(grafts)
    page.heading("Mean radiographs")
    page.gallery(_mean_images(found))
    page.heading("Duplicates")
    page.text(
        f"{len(audit.duplicates)} pairs at most {NEAR_BITS} of 256 bits apart; those across parts "
        "and classes first."
    )
    ranked = sorted(
        audit.duplicates, key=lambda d: (not d.across_parts, not d.across_classes, d.distance)
    )
    page.table(
        ("first", "second", "bits", "equal bytes", "across parts", "across classes",
         "across patients"),
        [(d.first, d.second, d.distance, d.same_bytes, d.across_parts, d.across_classes,
          d.across_patients) for d in ranked[:100]],
    )  # fmt: skip
    page.gallery(
        (_small(data / name), name) for d in ranked[: _SHOWN // 2] for name in (d.first, d.second)
    )
    page.heading("Patients in more than one part")
    page.text(", ".join(audit.patients_across_parts) or "none")
    page.heading("Unreadable and other files")
    page.table(("file", "reason"), [(u.path, u.reason) for u in audit.unreadable])
    page.text(", ".join(audit.ignored) or "no other files")
    page.heading("Samples")
    for kind in dict.fromkeys(item.sample.kind for item in found):
        chosen = [item for item in found if item.sample.kind == kind]
        spread = np.linspace(0, len(chosen) - 1, min(_SHOWN // 2, len(chosen))).astype(int)
        page.gallery(
            (_small(data / chosen[i].sample.path), f"{kind}: {chosen[i].sample.path}")
            for i in spread
        )
    page.write(path)


def _grafts(listed: _Listed, fields: Fields) -> Iterable[tuple[Image.Image, str]]:
    films = list(listed.source.films.values())
    cut = [f for f in films if f.crop != "whole" and fields.of(f.sample.path) is not None]
    whole = [f for f in films if f.crop == "whole" and fields.of(f.sample.path) is not None]
    if not cut or not whole:
        return
    chosen = [cut[i] for i in np.linspace(0, len(cut) - 1, min(_SHOWN, len(cut))).astype(int)]
    hosts = [whole[i] for i in np.linspace(0, len(whole) - 1, min(60, len(whole))).astype(int)]
    spec = InputSpec(224, 224)
    for one in graft_judged(listed.source, chosen, hosts, fields, spec):
        picture = Image.fromarray(one.pixels[:, :, 0]).convert("RGB")
        draw = ImageDraw.Draw(picture)
        for x, y, width, height in one.boxes:
            corners = np.array([x, y, x + width, y + height]) * 224
            draw.rectangle(tuple(corners), outline=(60, 160, 255), width=2)
        yield picture, f"{one.film.sample.kind}: {one.film.sample.path}"


def _draw_overview(found: Sequence[Examined]) -> Figure:
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    (left, right) = figure.subplots(1, 2)
    for i, normal in enumerate((True, False)):
        items = [item for item in found if (item.sample.kind == "normal") == normal]
        name = "normal" if normal else "others"
        if not items:
            continue
        means = [item.features["mean"] for item in items]
        left.hist(means, bins=40, alpha=0.5, density=True, color=f"C{i}", label=name)
        sizes = np.array([(item.width, item.height) for item in items])
        right.plot(sizes[:, 0], sizes[:, 1], ".", alpha=0.4, color=f"C{i}", label=name)
    left.set(xlabel="mean grey value", ylabel="density")
    right.set(xlabel="width, pixels", ylabel="height, pixels")
    left.legend()
    right.legend()
    return figure


def _mean_images(found: Sequence[Examined]) -> Iterable[tuple[Image.Image, str]]:
    for kind in dict.fromkeys(item.sample.kind for item in found):
        chosen = [item.thumbnail for item in found if item.sample.kind == kind]
        mean = np.mean(chosen, axis=0).reshape(16, 16)
        image = Image.fromarray((mean + 0.5).astype(np.uint8))
        yield image.resize((176, 176), Image.Resampling.BICUBIC), f"{kind}: mean of {len(chosen)}"


def _small(file: Path) -> Image.Image:
    grey, _ = read_grey(file.read_bytes(), (176, 176))
    return grey.resize((176, 176), Image.Resampling.BILINEAR)
