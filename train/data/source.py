"""Where the films of a run are, and how they are read: the same for training and all behind it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.images.preprocess import InputSpec
from train.data.dataset import Sample, load_pixels
from train.data.mixture import put_right
from train.data.table import Film, Table, read_table


@dataclasses.dataclass(frozen=True)
class Source:
    """Data sets that samples come from, and what is known of films beside their kind."""

    root: Path | None = None  # where the samples' paths begin; None for drawings
    films: Mapping[str, Film] = dataclasses.field(default_factory=dict)  # by path of the sample

    @staticmethod
    def of(table: Table) -> Source:
        return Source(table.root, {film.sample.path: film for film in table.films})

    def pixels(
        self,
        samples: Iterable[Sample],
        spec: InputSpec,
        description: str,
        store: Path | None = None,
    ) -> NDArray[np.uint8]:
        """(n, height, width, 1) as the device prepares them, inverted films put right.

        Args:
            samples: The films.
            spec: The model's input.
            description: For the progress bar.
            store: A file that the array is mapped to, instead of memory.

        Raises:
            InvalidValueError: There is no data to read from.
            ImageError: A film cannot be read.
        """
        samples = list(samples)
        pixels = load_pixels(self.root, samples, spec, description, store)
        known = [(i, self.films[s.path]) for i, s in enumerate(samples) if s.path in self.films]
        for i, film in known:
            put_right(pixels[i : i + 1], [film])
        return pixels

    def is_whole(self, sample: Sample) -> bool:
        """Whether it is a film as somebody would screen it, and not lungs that were cut out."""
        film = self.films.get(sample.path)
        return film is None or film.crop == "whole"

    def name_of(self, sample: Sample) -> str:
        """Of its hospital or collection; "" where nothing is known."""
        film = self.films.get(sample.path)
        return "" if film is None else film.source


def open_source(
    data: Sequence[Path], findings: Mapping[str, str] | None = None, patient_pattern: str = ""
) -> Source:
    """The films of data sets, their findings called as `findings` says; none for drawings.

    Raises:
        InvalidValueError: See `read_table`.
    """
    return Source.of(read_table(data, findings, patient_pattern)) if data else Source()
