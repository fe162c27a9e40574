"""Reads settings from the text of a config without running it."""

from __future__ import annotations

import ast
from collections.abc import Collection
from typing import Any


def read_settings(text: str, names: Collection[str]) -> dict[str, Any]:
    """Evaluates top-level assignments of a config as mmengine writes it to files and checkpoints.

    Args:
        text: The text of the config. It consists of literals and calls of ``dict``.
        names: The names of the settings to read.

    Returns:
        The value of each setting that the text assigns; empty if the text is something else.
    """
    try:
        return {
            node.targets[0].id: _evaluate(node.value)
            for node in ast.parse(text).body
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id in names
        }
    except (SyntaxError, ValueError):
        return {}


def _evaluate(node: ast.expr | None) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
        content: dict[str, Any] = {}
        for keyword in node.keywords:
            value = _evaluate(keyword.value)
            content.update(value if keyword.arg is None else {keyword.arg: value})
        return content
    if isinstance(node, ast.Dict):
        return {
            _evaluate(key): _evaluate(value)
            for key, value in zip(node.keys, node.values, strict=True)
        }
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_evaluate(inner) for inner in node.elts]
    return ast.literal_eval(node)  # type: ignore[arg-type]
