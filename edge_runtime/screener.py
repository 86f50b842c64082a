"""Bytes -> record: the whole of the main job.

bytes: sha256 -> prepare -> engine -> evidence map -> logits -> probability -> decision
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from edge_runtime.basics.beside import Beside, Task
from edge_runtime.basics.in_order import map_in_order
from edge_runtime.basics.processors import default_threads
from edge_runtime.bundle.folder import Bundle, load_bundle
from edge_runtime.bundle.manifest import KnownAnswer
from edge_runtime.engines.engine import RawOutputs
from edge_runtime.engines.pool import EnginePool
from edge_runtime.errors import EngineError, ErrorCode, ImageError, InvalidValueError
from edge_runtime.images.file import read_file, sha256
from edge_runtime.images.inputs import Input
from edge_runtime.images.memory import turn_of
from edge_runtime.images.preprocess import decode, prepare, prepare_pixels, resize
from edge_runtime.images.readers.facts import ImageFacts
from edge_runtime.judge.finding import ABSENT, state
from edge_runtime.judge.operating_point import OperatingPoint
from edge_runtime.judge.population import ANY, AUTO
from edge_runtime.judge.quality import Flag, Quality
from edge_runtime.judge.scores import (
    disease_logit,
    disease_map,
    finding_maps,
    finding_probabilities,
    label_probabilities,
    map_logits,
)
from edge_runtime.records.record import (
    STAGES,
    Conditions,
    Examination,
    FindingResult,
    ModelIdentity,
    Record,
    RecordError,
    milliseconds,
)
from edge_runtime.statistics.odds import probability as probability_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_runtime.bundle.correction import Correction
    from edge_runtime.bundle.site_profile import SiteProfile

T = TypeVar("T")

# Below the last digit the machines' exp() may differ; records must not.
_PROBABILITY_DIGITS = 8
_LONG_HELD = 16_000_000  # bytes of a file


class Screener:
    """A model ready to screen. Safe to share between threads.

    Example:
        >>> from edge_runtime import Screener
        >>> Screener.load().screen("radiograph.jpeg").decision  # doctest: +SKIP
        'normal'
    """

    def __init__(
        self,
        bundle: Bundle,
        pool: EnginePool,
        operating_point: OperatingPoint,
        force: bool = False,
        temperature: float | None = None,
    ) -> None:
        self.bundle, self.force = bundle, force
        self.site: SiteProfile | None = None  # that it was loaded with
        self._site: str | None = None  # its hash
        self._correction: Correction | None = None
        self._pool = pool
        self.temperature = temperature or bundle.manifest.calibration.temperature
        self._offset = pool.file.logit_offset
        self._evidence_floor = bundle.manifest.evidence_floor
        self._activation = bundle.manifest.outputs.activation
        # With one image at a time a second processor is idle while the first one decodes.
        self._beside = Beside() if pool.size == 1 and default_threads() > 1 else None
        manifest = bundle.manifest
        self._model = ModelIdentity(manifest.name, manifest.version, bundle.sha256, pool.name)
        self.population: str | None = None  # whom all films show; None: their ages say it
        self._blanks: dict[str, Record] = {}
        self.operating_point = operating_point

    @property
    def operating_point(self) -> OperatingPoint:
        """What decides where the population is not known; to set it makes it decide of all."""
        return self._point

    @operating_point.setter
    def operating_point(self, point: OperatingPoint) -> None:
        self.population = None
        self._decide_with(point, {})

    @property
    def points_by_population(self) -> Mapping[str, OperatingPoint]:
        """What decides instead where an image's age tells its population."""
        return self._points

    def _decide_with(self, point: OperatingPoint, points: Mapping[str, OperatingPoint]) -> None:
        self._point, self._points = point, dict(points)
        self._blank = self._blank_of(point, self.population)
        self._blanks = {name: self._blank_of(each, name) for name, each in points.items()}

    def _blank_of(self, point: OperatingPoint, population: str | None) -> Record:
        """What all records of a point have in common."""
        return Record(
            source="-",
            sha256=None,
            status="error",
            probability=None,
            decision=None,
            operating_point=point.name,
            threshold=point.threshold,
            quality=Quality(),
            model=self._model,
            population=population,
            site=self._site,
        )

    @property
    def site_name(self) -> str | None:
        """Of the site profile in use."""
        return self.site.name if self.site else None

    @property
    def engine_name(self) -> str:
        """The engine in use, with its version."""
        return self._pool.name

    @property
    def engine_family(self) -> str:
        """Engines of one family share known answers and site profiles."""
        return self._pool.family

    @property
    def conditions(self) -> Conditions:
        """What its results are made with; results of other conditions do not belong beside them."""
        blanks = (self._blank, *self._blanks.values())
        thresholds = {blank.population: blank.threshold for blank in blanks}
        name = self.operating_point.name
        findings = bool(self.bundle.manifest.findings)
        sha256 = self.bundle.sha256
        return Conditions(sha256, self.engine_name, name, thresholds, findings, self._site)

    @classmethod
    def load(
        cls,
        bundle: str | os.PathLike[str] | None = None,
        *,
        engine: str = "auto",
        threads: int | None = None,
        parallel: int = 1,
        operating_point: str | None = None,
        threshold: float | None = None,
        site: SiteProfile | str | os.PathLike[str] | None = None,
        force: bool = False,
        check: bool = True,
        population: str = AUTO,
    ) -> Screener:
        """Open a bundle, load its model and check one known answer on this machine.

        Args:
            bundle: A folder, or "default", "small" or "tiny", which are in the package.
            engine: "auto", "litert", "onnxruntime", "openvino" or "tflite-runtime".
            threads: Threads per inference; by default the processors, at most 4.
            parallel: How many threads may be inside the model at the same time.
            operating_point: A name from the manifest; by default the manifest's own default.
            threshold: A probability in (0, 1) instead of a named operating point.
            site: A site profile, or its file: its operating point, its temperature, and what it
                changed of the score.
            force: Give a probability also for images that the quality gate refuses; their record
                says so.
            check: Compare one known-answer vector before anything is screened.
            population: Whose operating point decides, where the bundle has several: "auto", by
                the age that a DICOM file states, else that of all; "children" or "adults", of
                every film (one that states another age is then refused); "any", that of all.
                Thresholds of one's own, or of a site, decide of all films.

        Raises:
            BundleError: The bundle is incomplete or altered.
            EngineError: No engine, or it gives wrong answers here.
            InvalidValueError: No such operating point or population, a threshold outside (0, 1),
                a site profile that was made for another bundle or family of engines, or a
                population named beside a threshold of one's own or a site.
        """
        opened = load_bundle(bundle)
        manifest = opened.manifest
        one = None if population in (AUTO, ANY) else population
        point = manifest.operating_point(operating_point, one)
        own = threshold is not None or (site is not None and operating_point is None)
        if one is not None and own:
            raise InvalidValueError(
                f"population {one!r} chooses among the bundle's thresholds, and there is another "
                "(threshold, site); leave one of the two out"
            )
        if threshold is not None:
            if not 0 < threshold < 1:
                raise InvalidValueError(f"threshold must lie between 0 and 1, got {threshold}")
            point = dataclasses.replace(point, name="custom", threshold=threshold, uncertain=None)
        pool = EnginePool(engine, opened, threads, parallel)
        temperature, profile = None, None
        if site is not None:
            from edge_runtime.bundle.site_profile import load_profile

            profile = load_profile(site) if isinstance(site, (str, os.PathLike)) else site
            profile.check_made_for(opened.sha256, pool.family)
            temperature = profile.temperature
            if operating_point is None and threshold is None:
                point = profile.operating_point
        screener = cls(opened, pool, point, force, temperature)
        screener.population = one
        if profile is not None:
            screener._take(profile)
        by_age = () if own or population != AUTO else manifest.populations
        points = {each.name: manifest.operating_point(point.name, each.name) for each in by_age}
        screener._decide_with(point, points)
        if check:
            for answer in opened.manifest.known_answers[:1]:
                screener.check_known_answer(answer)
        return screener

    def screen(
        self, image: str | os.PathLike[str] | bytes | NDArray[np.uint8], source: str | None = None
    ) -> Record:
        """Screen one image.

        Args:
            image: A path, the bytes of an image file, or greyscale pixels (height, width) uint8.
            source: What the record calls it; by default the path, or "-" for bytes and pixels.

        Returns:
            A record, also for input that cannot be screened: its status is then "error".
        """
        return self.examine(image, source).record

    def screen_many(
        self, images: Iterable[str | os.PathLike[str]], workers: int | None = None
    ) -> Iterator[Record]:
        """Screen many files on several threads; records come in the order of `images`.

        Args:
            images: Paths, taken lazily: never more than a few ahead of the records.
            workers: Threads; by default one per processor, at most 4. Load the screener with
                `parallel` of the same number, or they take turns in the model.
        """
        inputs = (Input(os.fspath(image)) for image in images)
        for examination in self.examine_many(inputs, workers or default_threads()):
            yield examination.record

    def examine_many(
        self, inputs: Iterable[Input], workers: int, timings: bool = False
    ) -> Generator[Examination, None, None]:
        """Examine inputs on `workers` processors, in the order of the inputs.

        Pillow's decoders and the engines release the interpreter lock, so threads are enough.
        """

        def examine(item: Input) -> Examination:
            if item.error is not None:
                return Examination(self.error_record(item.source, None, item.error))
            return self.examine(item.path, item.source, timings=timings)

        return map_in_order(examine, inputs, workers)

    def examine(
        self,
        image: str | os.PathLike[str] | bytes | NDArray[np.uint8],
        source: str | None = None,
        timings: bool = False,
        population: str | None = None,
    ) -> Examination:
        """As `screen`, and returns the prepared pixels and the evidence map too.

        Args:
            image: As for `screen`.
            source: As for `screen`.
            timings: Put `timing_ms` into the record.
            population: Whom this image shows, where the caller knows it ("children", "adults").

        Raises:
            InvalidValueError: No such population here: see `check_population`.
        """
        self.check_population(population)
        name = source or (os.fspath(image) if isinstance(image, (str, os.PathLike)) else "-")
        digest: Task[str] | None = None
        gate = self.bundle.manifest.quality
        clock = time.perf_counter
        try:
            started = read = decoded = clock()
            if isinstance(image, np.ndarray):
                digest = self._start(sha256, np.ascontiguousarray(image).data)
                pixels = prepare_pixels(image, self.bundle.manifest.input)
                facts = ImageFacts(*image.shape)
                height, width = image.shape
            else:
                with turn_of(image):
                    data = image if isinstance(image, bytes) else read_file(image)
                    read = clock()
                    digest = self._start(sha256, data)
                    grey, facts = decode(data, self.bundle.manifest.input)
                    decoded = clock()
                    if len(data) > _LONG_HELD:  # not while the network runs
                        digest.result()
                        del data
                width, height = grey.size
                beside = self._start if self._beside else None
                pixels = resize(grey, self.bundle.manifest.input, beside)
            flags = self._start(gate.look, facts, pixels) if gate else None
            prepared = clock()
            outputs = self.run(pixels)
            finished = clock()
            logits = self.logits(outputs)
        except ImageError as error:
            return Examination(self.error_record(name, digest.result() if digest else None, error))
        marks = (started, read, decoded, prepared, finished)
        stages = {stage: marks[i + 1] - marks[i] for i, stage in enumerate(STAGES[:-1])}
        quality = gate.weigh(flags.result(), outputs.features) if gate and flags else Quality()
        whose = population or self.population
        quality, whose = self._by_age(facts.age_years, quality, whose)
        blank = self._blanks.get(whose or "", self._blank)
        point = self._points.get(whose or "", self._point)
        logit = float(disease_logit(logits[np.newaxis], self._activation)[0])
        corrected = self._corrected(logit, outputs.features)
        judged = self._judge(logits, corrected, quality, point)
        record = dataclasses.replace(
            blank,
            source=name,
            sha256=digest.result(),
            quality=quality,
            timing_ms=milliseconds(stages) if timings else None,
            **judged,
        )
        stages[STAGES[-1]] = clock() - finished
        evidence = disease_map(outputs.evidence_map, self._activation)
        aspect = width / height
        maps = self._finding_maps(outputs)
        return Examination(
            record, pixels, evidence, stages, self._evidence_floor, aspect, maps, outputs.features,
            logit, facts,
        )  # fmt: skip

    def _take(self, profile: SiteProfile) -> None:
        """Judge as a site profile says, from now on.

        Raises:
            InvalidValueError: Its correction does not fit this model.
        """
        profile.check_corrects(self.bundle.manifest)
        self.site, self._site = profile, profile.sha256
        self._correction = profile.correction

    def _corrected(self, logit: float, features: NDArray[np.float32]) -> float:
        """Log odds of disease before temperature, as the site corrected them."""
        if self._correction is None:
            return logit
        return self._correction.apply(logit, features)

    def _finding_maps(self, outputs: RawOutputs) -> dict[str, NDArray[np.float32]] | None:
        findings = self.bundle.manifest.findings
        if not findings:
            return None
        maps = finding_maps(outputs.evidence_map, self._activation)
        return {finding.name: maps[:, :, i] for i, finding in enumerate(findings)}

    def _start(self, work: Callable[..., T], *arguments: Any) -> Task[T]:
        """Begin it on the idle processor; where there is none, it is done when it is needed."""
        if self._beside is not None:
            return self._beside.start(work, *arguments)
        return Task(work, *arguments)

    def run(self, pixels: NDArray[np.uint8]) -> RawOutputs:
        """Inference alone: (height, width, 1) uint8 -> map and features.

        Raises:
            ImageError: The engine failed.
        """
        try:
            outputs = self._pool.run(pixels)
        except Exception as error:  # engines raise classes of their own; one image must not end all
            raise ImageError(
                ErrorCode.INFERENCE_FAILED, f"engine {self.engine_name}: {error}"
            ) from error
        return outputs

    def logits(self, outputs: RawOutputs) -> NDArray[np.float64]:
        """(units,) logits before temperature: mean of the map plus the file's offset.

        Raises:
            ImageError: The model's outputs are not finite numbers.
        """
        logits = map_logits(outputs.evidence_map, self._offset)
        # One number that is not finite makes the sum of squares so; `dot` is the lightest call.
        if not math.isfinite(sum(logits) + float(outputs.features.dot(outputs.features))):
            raise ImageError(
                ErrorCode.INFERENCE_FAILED,
                f"engine {self.engine_name} gave numbers that are not finite (logits {logits})",
            )
        return np.array(logits)

    def label_probabilities(self, logits: NDArray[np.float64]) -> dict[str, float]:
        """Calibrated probability of each label of the bundle, where labels exclude each other."""
        manifest = self.bundle.manifest
        values = label_probabilities(logits, self.temperature, self._activation)
        return dict(zip(manifest.labels, values, strict=True))

    def check_known_answer(self, answer: KnownAnswer) -> float | None:
        """Largest logit difference to a known answer; None where this family has none.

        Raises:
            EngineError: The prepared tensor or the logits differ: scores here are not to be
                trusted.
        """
        try:
            pixels = prepare(answer.image, self.bundle.manifest.input)
            found = self.logits(self.run(pixels))
        except ImageError as error:
            raise EngineError(f"known answer {answer.name!r}: {error}") from error
        if hashlib.sha256(pixels.tobytes()).hexdigest() != answer.tensor_sha256:
            raise EngineError(
                f"known answer {answer.name!r}: the prepared image differs from the one the model "
                "was made with; this Pillow build decodes or resizes differently"
            )
        expected = answer.logits.get(self._pool.family)
        if expected is None:
            return None
        difference = float(np.abs(found - expected).max())
        if difference > answer.tolerance[self._pool.family]:
            raise EngineError(
                f"known answer {answer.name!r}: engine {self.engine_name} is off by "
                f"{difference:.3f} in logits, at most "
                f"{answer.tolerance[self._pool.family]} is allowed; "
                "its kernels give wrong scores on this processor, use another engine"
            )
        return difference

    def error_record(self, source: str, digest: str | None, error: ImageError) -> Record:
        """The record of an input that could not be screened."""
        told = RecordError(error.code.value, f"{source}: {error}")
        return dataclasses.replace(self._blank, source=source, sha256=digest, error=told)

    def check_population(self, name: str | None) -> None:
        """Raise InvalidValueError unless one image may be said to show this population.

        It may where the bundle has points by population, and neither a threshold of one's own, nor
        a site, nor another population was named for all images.
        """
        if name is None or name in self._points or name == self.population:
            return
        names = ", ".join(self._points) or self.population or "none"
        raise InvalidValueError(f"no population {name[:40]!r} to choose here; there is {names}")

    def _by_age(
        self, age: float | None, quality: Quality, named: str | None
    ) -> tuple[Quality, str | None]:
        """Quality and population, by the age that a file states and the one that was named."""
        if age is None:
            return quality, named
        manifest = self.bundle.manifest
        if named is None:
            fitting = (n for n in self._points if manifest.population(n).covers(age))
            return quality, next(fitting, None)
        if not manifest.population(named).covers(age):
            flags = (*quality.flags, Flag.WRONG_POPULATION.value)
            quality = Quality(False, flags, quality.ood_score)
        return quality, named

    def _judge(
        self,
        logits: NDArray[np.float64],
        corrected: float,
        quality: Quality,
        point: OperatingPoint,
    ) -> dict[str, Any]:
        """The fields of a record that are the model's to say."""
        if not (quality.accepted or self.force):
            return {"status": "rejected"}
        manifest = self.bundle.manifest
        probability = round(probability_of(corrected / self.temperature), _PROBABILITY_DIGITS)
        judged: dict[str, Any] = {
            "status": "ok",
            "probability": probability,
            "decision": point.decide(probability, manifest.positive),
        }
        if len(logits) > 2 and self._activation == "softmax":
            judged["probabilities"] = {
                label: round(p, _PROBABILITY_DIGITS)
                for label, p in self.label_probabilities(logits).items()
            }
        if manifest.findings:
            found = judged["findings"] = self._find(logits, point)
            if judged["decision"] == "normal" and any(f.decision != ABSENT for f in found.values()):
                # A film is not normal beside a finding that is not absent: somebody has to look.
                judged["decision"] = "uncertain"
        return judged

    def _find(self, logits: NDArray[np.float64], point: OperatingPoint) -> dict[str, FindingResult]:
        """Each finding by its own threshold at the operating point in force."""
        manifest = self.bundle.manifest
        values = finding_probabilities(
            logits, self._activation, [f.temperature for f in manifest.findings], self.temperature
        )
        found = {}
        for finding, value in zip(manifest.findings, values, strict=True):
            own = finding.point(point.name, manifest.default_operating_point)
            rounded = round(value, _PROBABILITY_DIGITS)
            found[finding.name] = FindingResult(rounded, own.threshold, state(own, rounded))
        return found
