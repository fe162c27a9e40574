"""Rows of the paper's tables, filled in with ours, and counts as the paper prints them."""

from __future__ import annotations

from dataclasses import dataclass

from .published import Row


@dataclass
class Line:
    """A row of a table, filled in.

    Args:
        row: What is published.
        params: Our parameters, None where we have no such model.
        madds: Our multiply-adds.
        attention: Those of them in products of attention.
        accuracy: Ours, in percent, None where there is no result.
        latency_ms: Median on this machine, None where it was not measured.
    """

    row: Row
    params: int | None = None
    madds: int | None = None
    attention: int = 0
    accuracy: float | None = None
    latency_ms: float | None = None


def format_count(value: int | None) -> str:
    """A count as the paper prints counts: in millions below 1G."""
    if value is None:
        return ''
    if value >= 1e9:
        return f'{value / 1e9:.2f}G'
    return f'{value / 1e6:.2f}M' if value < 1e8 else f'{value / 1e6:.0f}M'


def parse_count(text: str) -> float:
    """The number that a printed count stands for."""
    return float(text[:-1]) * {'M': 1e6, 'G': 1e9}[text[-1]]


def deviation(published: str, ours: int) -> float:
    """How far ours is from a printed figure, as a fraction of it; 0 if ours is printed alike."""
    text, unit = published[:-1], published[-1]
    decimals = len(text.partition('.')[2])
    if f'{ours / parse_count("1" + unit):.{decimals}f}' == text:
        return 0.0
    return ours / parse_count(published) - 1


def format_deviation(published: str, ours: int | None) -> str:
    """A deviation in percent; empty where there is nothing to compare."""
    if not published or ours is None:
        return ''
    return f'{deviation(published, ours):+.1%}'.replace('+0.0%', '0').replace('-0.0%', '0')
