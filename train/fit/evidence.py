"""Teaching the map where evidence may lie, beside what its mean should say.

    outside   the share of |evidence| that lies outside of the lungs; cells of which a quarter is
              inside count as inside, for lungs are narrow and maps are coarse. A share, and not a
              mean: it cannot be met by having no evidence at all, which is what a network did that
              was asked for little evidence outside
    boxes     on films with boxes: -log of the share of softmax(map) inside the boxes, and 0.3 of
              the mean positive evidence outside of them

A map that keeps inside the field of both lungs can still point at the heart between them, which is
why boxes have to teach too, and why `benchmarks evidence` counts hits and not shares alone.
"""

from __future__ import annotations

import keras
import numpy as np
from numpy.typing import NDArray

from train.data.mixture import Rendered, cells
from train.network.build import FEATURES_LAYER, MAP_LAYER
from train.recipe import Evidence

_BESIDE_BOXES = 0.3
_INSIDE = 0.25  # share of a cell inside the lungs from which on it counts as inside
_LEAST_EVIDENCE = 1e-3  # of a whole map; keeps the share of an empty one finite


def with_map(model: keras.Model, side: bool = False) -> keras.Model:
    """The same network with its map as a second output, to be trained together.

    Args:
        model: A training model with the head that explains itself.
        side: Also a third, "side" (n, 1): the logit, from the pooled features, of a film being
            mirrored. Its layer serves training alone. Networks whose films are mirrored in
            training forget left and right, and then no gate behind them can tell such a film.
    """
    outputs = {"logits": model.output, "map": model.get_layer(MAP_LAYER).output}
    if side:
        pooled = keras.layers.GlobalAveragePooling2D(name="pooled_for_side", dtype="float32")(
            model.get_layer(FEATURES_LAYER).output
        )
        outputs["side"] = keras.layers.Dense(1, name="side", dtype="float32")(pooled)
    return keras.Model(model.input, outputs, name=f"{model.name}_with_map")


def map_target(rendered: Rendered, rows: int, columns: int) -> NDArray[np.float32]:
    """(rows, columns, 2): the share of each cell outside of the field, and inside boxes.

    Where no field is known nothing is outside; without boxes nothing is inside of any.
    """
    field = rendered.field
    outside = np.zeros((rows, columns)) if field is None else 1 - cells(field, rows, columns)
    boxes = cells(rendered.boxes, rows, columns)
    return np.stack([outside, boxes], axis=-1).astype(np.float32)


@keras.saving.register_keras_serializable("cxr-edge")
class EvidenceLoss(keras.losses.Loss):
    """Of targets (n, rows, columns, 2) from `map_target` and maps (n, rows, columns, units).

    Of several units it teaches the likeliest of each place.
    """

    def __init__(self, outside: float = 0.0, boxes: float = 0.0) -> None:
        super().__init__(name="evidence")
        self.outside, self.boxes = outside, boxes

    @staticmethod
    def of(evidence: Evidence) -> EvidenceLoss:
        return EvidenceLoss(evidence.outside, evidence.boxes)

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        ops = keras.ops
        outside, boxes = y_true[..., 0], y_true[..., 1]
        evidence = ops.cast(ops.max(y_pred, axis=-1), "float32")
        size = ops.abs(evidence)
        outer = ops.relu(1 - (1 - outside) / _INSIDE)
        total = ops.sum(size, axis=(1, 2))
        loss = self.outside * ops.sum(size * outer, axis=(1, 2)) / (total + _LEAST_EVIDENCE)
        if self.boxes:
            has_boxes = ops.cast(ops.max(boxes, axis=(1, 2)) > 0, "float32")
            flat = ops.reshape(evidence, (ops.shape(evidence)[0], -1))
            inside = ops.reshape(boxes, ops.shape(flat))
            share = ops.sum(ops.softmax(flat, axis=-1) * inside, axis=-1)
            beside = ops.mean(ops.relu(flat) * (1 - inside), axis=-1)
            hit = -ops.log(ops.maximum(share, 1e-4)) + _BESIDE_BOXES * beside
            loss = loss + self.boxes * has_boxes * hit
        return loss
