"""The images that a quantiser's activation ranges follow from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from train.data.dataset import Sample


def choose_representative(images: Sequence[Sample], count: int) -> list[Sample]:
    """The representative dataset: `count` training images, one per patient, equal by kind.

    A quantiser's activation ranges follow from these. They are spread evenly over the sorted
    names, so the choice depends on nothing but the list.
    """
    by_kind: dict[str, list[Sample]] = {}
    seen: set[str] = set()
    for image in sorted(images, key=lambda i: i.path):
        if image.patient not in seen:
            seen.add(image.patient)
            by_kind.setdefault(image.kind, []).append(image)
    # Half normal, half disease, however many kinds of disease there are.
    diseases = sorted(kind for kind in by_kind if kind != "normal")
    quota = {"normal": count // 2} | {k: count // 2 // len(diseases) for k in diseases}
    chosen: list[Sample] = []
    for kind in sorted(quota):
        pool = by_kind[kind]
        positions = np.linspace(0, len(pool) - 1, min(quota[kind], len(pool)))
        chosen += [pool[round(p)] for p in positions]
    return sorted(chosen, key=lambda i: i.path)
