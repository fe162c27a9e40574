"""Where the repository lies, its configs, and ports."""

import socket
from pathlib import Path

ROOT = Path(__file__).parents[1]
_ALL = sorted((ROOT / 'configs').glob('[!_]*/**/*.py'))
#: Recipes for custom data, which are complete only with data.
RECIPES = [path for path in _ALL if path.stem.endswith('_custom')]
CONFIGS = [path for path in _ALL if path not in RECIPES]
#: The config that most tests start from.
DIGITS_CONFIG = ROOT / 'configs' / 'classification' / 'edgenext-xxsmall_digits.py'


def free_port():
    """A port that nothing uses at the moment, as text."""
    with socket.socket() as listener:
        listener.bind(('', 0))
        return str(listener.getsockname()[1])
