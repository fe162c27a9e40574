"""Where the repository lies, the config that most tests start from, and ports."""

import socket
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIGITS_CONFIG = ROOT / 'configs' / 'classification' / 'edgenext-xxsmall_digits.py'


def free_port():
    """A port that nothing uses at the moment, as text."""
    with socket.socket() as listener:
        listener.bind(('', 0))
        return str(listener.getsockname()[1])
