"""How long things take, in words. Without torch."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Some seconds, minutes, or hours and minutes."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
