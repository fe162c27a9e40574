"""Where the repository lies, and the config that most tests start from."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
DIGITS_CONFIG = ROOT / 'configs' / 'classification' / 'edgenext-xxsmall_digits.py'
