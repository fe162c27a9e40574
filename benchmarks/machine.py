"""Description and peak performance of the machine."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile


def describe_machine(device: str = 'cpu') -> str:
    """Returns processor, cores and versions in one line."""
    if device != 'cpu':
        name = torch.cuda.get_device_name(device)
    else:
        info = Path('/proc/cpuinfo')
        lines = info.read_text().splitlines() if info.is_file() else []
        models = [line.partition(':')[2].strip() for line in lines if 'model name' in line]
        name = f'{models[0] if models else platform.processor()}, {os.cpu_count()} cores'
    return f'{name}; torch {torch.__version__}, Python {platform.python_version()}'


def matmul_peak(dtype: torch.dtype = torch.float32, device: str = 'cpu', size: int = 1024) -> float:
    """Measures the multiply-adds per second of a square matrix product, the best of ten.

    Args:
        dtype: Type of the matrices. Default: single precision.
        device: Device. Default: the CPU.
        size: Rows and columns. Default: 1024.
    """
    a = torch.randn(size, size, device=device, dtype=dtype)
    best = float('inf')
    for _ in range(10):
        start = time.perf_counter()
        a @ a
        if device != 'cpu':
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return size**3 / best


def peak_memory(call: Callable[[], object], device: str = 'cpu') -> int:
    """Measures the peak memory in bytes that PyTorch allocates during a call.

    Args:
        call: The call. Memory of other runtimes is not counted.
        device: Device. Default: the CPU.
    """
    if device != 'cpu':
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        call()
    events = [e for e in recorded.profiler.kineto_results.events() if e.name() == '[memory]']
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak
