"""Tracing of models that compute with the sizes of their feature maps as tensors.

Deformable transformers keep the heights and widths of their maps in a tensor, and use its values as
numbers: to split sequences, to build grids. ``torch.export`` knows no values of tensors. In a file
for images of one size, these are constants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map


class KnownSizes(TorchFunctionMode):
    """A context in which tensors that follow from the shapes of other tensors are constants.

    It starts from ``torch._shape_as_tensor``, which the OpenMMLab libraries call for this purpose.
    Operators whose tensors are all known are computed at once; a known number is given to other
    operators as a number.
    """

    def __init__(self) -> None:
        super().__init__()
        self._values: dict[int, tuple[Tensor, Tensor]] = {}  # both are kept: an id may be reused

    def __torch_function__(
        self,
        func: Callable,
        types: Iterable[type],
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Runs an operator."""
        kwargs = kwargs or {}
        if func is torch._shape_as_tensor:
            with _disable_current_modes():
                value = torch.tensor(list(args[0].shape))
            return self._constant(value)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        known = [id(tensor) in self._values for tensor in tensors]
        if not any(known):
            return func(*args, **kwargs)
        if all(known):
            with _disable_current_modes():
                values = func(*tree_map(self._value, args), **tree_map(self._value, kwargs))
            return tree_map(self._constant, values)
        return func(*tree_map(self._number, args), **tree_map(self._number, kwargs))

    def _constant(self, value: Any) -> Any:
        """Returns a tensor of the traced program with a known value."""
        if not isinstance(value, Tensor):
            return value
        with _disable_current_modes():
            numbers = value.tolist()
        constant = torch.tensor(numbers, dtype=value.dtype).reshape(value.shape)
        self._values[id(constant)] = constant, value
        return constant

    def _value(self, leaf: Any) -> Any:
        return self._values[id(leaf)][1] if isinstance(leaf, Tensor) else leaf

    def _number(self, leaf: Any) -> Any:
        """Returns the number in a known tensor without dimensions; other values unchanged."""
        is_number = isinstance(leaf, Tensor) and id(leaf) in self._values and leaf.ndim == 0
        if not is_number:
            return leaf
        with _disable_current_modes():
            return self._values[id(leaf)][1].item()
