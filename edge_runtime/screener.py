"""Bytes -> record: the whole of the main job.

bytes: sha256 -> prepare -> engine -> evidence map -> logits -> probability -> decision
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from edge_runtime.beside import Beside, Task
from edge_runtime.bundle import Bundle, load_bundle
from edge_runtime.engines import RawOutputs, default_threads
from edge_runtime.engines.pool import EnginePool
from edge_runtime.errors import EngineError, ErrorCode, ImageError, InvalidValueError
from edge_runtime.frozen import frozen
from edge_runtime.manifest import KnownAnswer, OperatingPoint
from edge_runtime.preprocess import decode, prepare, prepare_pixels, resize
from edge_runtime.readers.facts import ImageFacts
from edge_runtime.record import ModelIdentity, Quality, Record, RecordError
from edge_runtime.scores import label_probabilities

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_runtime.site import SiteProfile

T = TypeVar("T")

MAX_FILE_BYTES = 256_000_000
# What `Examination.stages` times. The hash is counted where it is waited for.
STAGES = ("read", "decode", "preprocess", "infer", "post")
_READ_ONLY = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
# Below the last digit the machines' exp() may differ; records must not.
_PROBABILITY_DIGITS = 8


@frozen
class Examination:
    """A record with what it was made of; the arrays are None where the image gave an error."""

    record: Record
    pixels: NDArray[np.uint8] | None = None  # (height, width, 1), as the model saw them
    evidence_map: NDArray[np.float32] | None = None  # (rows, columns), log odds of pneumonia
    stages: Mapping[str, float] | None = None  # seconds by stage, in order: see STAGES


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
        self.bundle, self.operating_point, self.force = bundle, operating_point, force
        self._pool = pool
        self.temperature = temperature or bundle.manifest.calibration.temperature
        self._offset = pool.file.logit_offset
        # With one image at a time a second processor is idle while the first one decodes.
        self._beside = Beside() if pool.size == 1 and default_threads() > 1 else None
        manifest = bundle.manifest
        self._model = ModelIdentity(manifest.name, manifest.version, bundle.sha256, pool.name)

    @property
    def engine_name(self) -> str:
        """The engine in use, with its version."""
        return self._pool.name

    @property
    def engine_family(self) -> str:
        """Engines of one family share known answers and site profiles."""
        return self._pool.family

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
    ) -> Screener:
        """Open a bundle, load its model and check one known answer on this machine.

        Args:
            bundle: Bundle folder; by default the one in the package.
            engine: "auto", "litert", "onnxruntime" or "tflite-runtime".
            threads: Threads per inference; by default the processors, at most 4.
            parallel: How many threads may be inside the model at the same time.
            operating_point: A name from the manifest; by default the manifest's own default.
            threshold: A probability in (0, 1) instead of a named operating point.
            site: A site profile, or its file: its operating point and temperature.
            force: Give a probability also for images that the quality gate refuses; their record
                says so.
            check: Compare one known-answer vector before anything is screened.

        Raises:
            BundleError: The bundle is incomplete or altered.
            EngineError: No engine, or it gives wrong answers here.
            InvalidValueError: No such operating point, a threshold outside (0, 1), or a site
                profile that was made for another bundle or family of engines.
        """
        opened = load_bundle(bundle)
        point = opened.manifest.operating_point(operating_point)
        if threshold is not None:
            if not 0 < threshold < 1:
                raise InvalidValueError(f"threshold must lie between 0 and 1, got {threshold}")
            point = dataclasses.replace(point, name="custom", threshold=threshold, uncertain=None)
        pool = EnginePool(engine, opened, threads, parallel)
        temperature = None
        if site is not None:
            profile = _site_profile(site, opened.sha256, pool.family)
            temperature = profile.temperature
            if operating_point is None and threshold is None:
                point = profile.operating_point
        screener = cls(opened, pool, point, force, temperature)
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
        from edge_runtime.batch import examine_many
        from edge_runtime.inputs import Input

        inputs = (Input(os.fspath(image)) for image in images)
        for examination in examine_many(self, inputs, workers or default_threads()):
            yield examination.record

    def examine(
        self,
        image: str | os.PathLike[str] | bytes | NDArray[np.uint8],
        source: str | None = None,
        timings: bool = False,
    ) -> Examination:
        """As `screen`, and returns the prepared pixels and the evidence map too."""
        name = source or (os.fspath(image) if isinstance(image, (str, os.PathLike)) else "-")
        digest: Task[str] | None = None
        gate = self.bundle.manifest.quality
        clock = time.perf_counter
        try:
            started = read = decoded = clock()
            if isinstance(image, np.ndarray):
                digest = self._start(_sha256, np.ascontiguousarray(image).data)
                pixels = prepare_pixels(image, self.bundle.manifest.input)
                facts = ImageFacts(*image.shape)
            else:
                data = image if isinstance(image, bytes) else read_file(image)
                read = clock()
                digest = self._start(_sha256, data)
                grey, facts = decode(data, self.bundle.manifest.input)
                decoded = clock()
                beside = self._start if self._beside else None
                pixels = resize(grey, self.bundle.manifest.input, beside)
            flags = self._start(gate.look, facts, pixels) if gate else None
            prepared = clock()
            outputs = self.run(pixels)
            finished = clock()
            logits = self.logits(outputs)
        except ImageError as error:
            return Examination(self.error_record(name, digest.result() if digest else None, error))
        timing = None
        if timings:
            timing = {
                "decode": round((decoded - started) * 1e3, 3),  # with reading
                "preprocess": round((prepared - decoded) * 1e3, 3),
                "inference": round((finished - prepared) * 1e3, 3),
            }
        quality = gate.weigh(flags.result(), outputs.features) if gate and flags else Quality()
        record = self._judge(name, digest.result(), logits, quality, timing)
        marks = (started, read, decoded, prepared, finished, clock())
        stages = {stage: marks[i + 1] - marks[i] for i, stage in enumerate(STAGES)}
        return Examination(record, pixels, self._disease_map(outputs), stages)

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
        rows, columns, units = outputs.evidence_map.shape
        # As Python's floats: a few dozen numbers are summed before an array function has begun.
        # `fsum` is exact, so the order of summation cannot show in the record.
        values = outputs.evidence_map.ravel().tolist()
        try:
            logits = [
                math.fsum(values[unit::units]) / (rows * columns) + offset
                for unit, offset in enumerate(self._offset)
            ]
        except (ValueError, OverflowError):  # infinities of both signs
            logits = [math.nan]
        # One number that is not finite makes the sum of squares so; `dot` is the lightest call.
        if not math.isfinite(sum(logits) + float(outputs.features.dot(outputs.features))):
            raise ImageError(
                ErrorCode.INFERENCE_FAILED,
                f"engine {self.engine_name} gave numbers that are not finite (logits {logits})",
            )
        return np.array(logits)

    def label_probabilities(self, logits: NDArray[np.float64]) -> dict[str, float]:
        """Calibrated probability of each label of the bundle."""
        manifest = self.bundle.manifest
        values = label_probabilities(logits, self.temperature)
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
        return self._record(
            source, digest, "error", error=RecordError(error.code.value, f"{source}: {error}")
        )

    def _judge(
        self,
        source: str,
        digest: str | None,
        logits: NDArray[np.float64],
        quality: Quality,
        timing_ms: Mapping[str, float] | None,
    ) -> Record:
        if not (quality.accepted or self.force):
            return self._record(source, digest, "rejected", quality=quality, timing_ms=timing_ms)
        by_label = self.label_probabilities(logits)
        labels = self.bundle.manifest.labels
        probability = round(sum(by_label[label] for label in labels[1:]), _PROBABILITY_DIGITS)
        return self._record(
            source,
            digest,
            "ok",
            probability=probability,
            decision=self._decide(probability),
            probabilities=(
                {label: round(p, _PROBABILITY_DIGITS) for label, p in by_label.items()}
                if len(labels) > 2
                else None
            ),
            quality=quality,
            timing_ms=timing_ms,
        )

    def _decide(self, probability: float) -> str:
        point = self.operating_point
        if point.uncertain and point.uncertain[0] <= probability < point.uncertain[1]:
            return "uncertain"
        return "pneumonia" if probability >= point.threshold else "normal"

    def _disease_map(self, outputs: RawOutputs) -> NDArray[np.float32]:
        evidence = outputs.evidence_map
        if evidence.shape[2] == 1:
            return evidence[:, :, 0]
        return np.asarray(evidence[:, :, 1:].max(axis=2) - evidence[:, :, 0])

    def _record(
        self,
        source: str,
        digest: str | None,
        status: str,
        *,
        probability: float | None = None,
        decision: str | None = None,
        quality: Quality | None = None,
        error: RecordError | None = None,
        probabilities: Mapping[str, float] | None = None,
        timing_ms: Mapping[str, float] | None = None,
    ) -> Record:
        return Record(
            source=source,
            sha256=digest,
            status=status,
            probability=probability,
            decision=decision,
            operating_point=self.operating_point.name,
            threshold=self.operating_point.threshold,
            quality=quality or Quality(),
            model=self._model,
            error=error,
            probabilities=probabilities,
            timing_ms=timing_ms,
        )


def _site_profile(
    site: SiteProfile | str | os.PathLike[str], bundle_sha256: str, family: str
) -> SiteProfile:
    from edge_runtime.site import SiteProfile, load_profile

    profile = site if isinstance(site, SiteProfile) else load_profile(site)
    if profile.bundle_sha256 != bundle_sha256:
        raise InvalidValueError(
            f"the site profile {profile.name!r} was made for bundle "
            f"{profile.bundle_sha256[:16]}… ({profile.model}), this is {bundle_sha256[:16]}…; "
            "calibrate again with this one"
        )
    if profile.engine_family != family:
        raise InvalidValueError(
            f"the site profile {profile.name!r} was made on {profile.engine}; engines of family "
            f"{family} score a little differently, calibrate again or use that engine"
        )
    return profile


def hash_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file as records show it.

    Raises:
        ImageError: It cannot be read.
    """
    return _sha256(read_file(path))


def _sha256(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def read_file(path: str | os.PathLike[str]) -> bytes:
    """The whole file.

    Raises:
        ImageError: It cannot be read, or is larger than any radiograph.
    """
    try:
        descriptor = os.open(path, _READ_ONLY)
        try:
            status = os.fstat(descriptor)
            if status.st_size > MAX_FILE_BYTES:
                raise ImageError(
                    ErrorCode.FILE_TOO_LARGE,
                    f"{status.st_size} bytes is more than the limit of {MAX_FILE_BYTES}",
                )
            # One byte more than there are: where they come without it, that was the whole file.
            data = os.read(descriptor, status.st_size + 1)
            if len(data) != status.st_size or not stat.S_ISREG(status.st_mode):
                # A pipe or a device has no size and may have no end.
                with open(descriptor, "rb", closefd=False) as file:
                    data += file.read(MAX_FILE_BYTES + 1 - len(data))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ImageError(
            ErrorCode.UNREADABLE_FILE, error.strerror or type(error).__name__
        ) from error
    except ValueError as error:  # a path with a NUL in it
        raise ImageError(ErrorCode.UNREADABLE_FILE, str(error)) from error
    if len(data) > MAX_FILE_BYTES:
        raise ImageError(ErrorCode.FILE_TOO_LARGE, f"more than the limit of {MAX_FILE_BYTES} bytes")
    return data
