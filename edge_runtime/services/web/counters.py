"""Counters in Prometheus' text format.

Source: Prometheus exposition formats, version 0.0.4.
"""

from __future__ import annotations

import threading
from collections import Counter

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Safe to use from threads."""

    def __init__(self, model: str, version: str, engine: str) -> None:
        self._lock = threading.Lock()
        self._results: Counter[tuple[str, str]] = Counter()
        self._responses: Counter[int] = Counter()
        self._buckets = [0] * len(_BUCKETS)
        self._seconds, self._screened = 0.0, 0
        self._info = f'model="{model}",version="{version}",engine="{engine}"'
        self.in_progress = 0
        self.waiting = 0

    def result(self, status: str, decision: str | None, seconds: float) -> None:
        with self._lock:
            self._results[status, decision or ""] += 1
            self._seconds += seconds
            self._screened += 1
            for i, bound in enumerate(_BUCKETS):
                self._buckets[i] += seconds <= bound

    def response(self, code: int) -> None:
        with self._lock:
            self._responses[code] += 1

    def text(self) -> str:
        with self._lock:
            lines = [
                "# HELP cxr_edge_info Model and engine in use.",
                "# TYPE cxr_edge_info gauge",
                f"cxr_edge_info{{{self._info}}} 1",
                "# HELP cxr_edge_results_total Images by outcome.",
                "# TYPE cxr_edge_results_total counter",
                *(
                    f'cxr_edge_results_total{{status="{status}",decision="{decision}"}} {count}'
                    for (status, decision), count in sorted(self._results.items())
                ),
                "# HELP cxr_edge_responses_total HTTP responses by code.",
                "# TYPE cxr_edge_responses_total counter",
                *(
                    f'cxr_edge_responses_total{{code="{code}"}} {count}'
                    for code, count in sorted(self._responses.items())
                ),
                "# HELP cxr_edge_in_progress Images being screened.",
                "# TYPE cxr_edge_in_progress gauge",
                f"cxr_edge_in_progress {self.in_progress}",
                "# HELP cxr_edge_waiting Images waiting for a worker.",
                "# TYPE cxr_edge_waiting gauge",
                f"cxr_edge_waiting {self.waiting}",
                "# HELP cxr_edge_screening_seconds Time to screen one image.",
                "# TYPE cxr_edge_screening_seconds histogram",
                *(
                    f'cxr_edge_screening_seconds_bucket{{le="{bound}"}} {count}'
                    for bound, count in zip(_BUCKETS, self._buckets, strict=True)
                ),
                f'cxr_edge_screening_seconds_bucket{{le="+Inf"}} {self._screened}',
                f"cxr_edge_screening_seconds_sum {self._seconds:.6f}",
                f"cxr_edge_screening_seconds_count {self._screened}",
            ]
        return "\n".join(lines) + "\n"
