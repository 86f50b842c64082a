"""What a batch came to, for people; and its exit code."""

from __future__ import annotations

from collections.abc import Mapping

from edge_runtime.basics.streams import tell
from edge_runtime.records.messages import catalogue, say, say_of


def summarise(counts: Mapping[str, int], language: str, positive: str) -> int:
    """Tell how many there are of each kind, on standard error.

    Args:
        counts: By decision, or by status where there is none; "skipped…" of a resumed run.
        language: One of `messages.LANGUAGES`.
        positive: What the bundle calls what it looks for.

    Returns:
        0, 1 where something could not be screened, 2 where there was nothing.
    """
    total = sum(counts.values())
    if total == 0:
        tell(say("summary.none", language))
        return 2
    words = catalogue(language)
    parts = []
    for name, count in sorted(counts.items()):
        keys = (f"{kind}.{name}" for kind in ("decision", "status", "summary"))
        parts.append(f"{count} {next((words[key] for key in keys if key in words), name)}")
    tell(say("summary.files", language).format(total=total, parts=", ".join(parts)))
    for name in (positive, "uncertain", "normal"):
        if counts.get(name):
            meaning = say_of(f"meaning.{name}", positive, language)
            tell(f"  {words[f'decision.{name}']}: {meaning}")
    return int(any(name.endswith(("error", "rejected")) for name in counts))
