"""Print the tests of what changed since the branch left main: `make check` runs them.

The tests of a module are at the mirrored path: edgenext_mm/models/arch.py is tested by
tests/models/test_arch.py. If nothing that changed has such tests, a smoke set is printed.
"""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
SMOKE = (
    'tests/test_config.py',
    'tests/models/test_arch.py',
    'tests/models/test_layers.py',
    'tests/models/test_infer_arch.py',
    'tests/engine/test_schedule.py',
    'tests/apis/test_results.py',
)


def changed_files():
    commands = (
        ('diff', '--name-only', '--merge-base', 'main'),
        ('diff', '--name-only', 'HEAD'),
        ('ls-files', '--others', '--exclude-standard'),
    )
    for command in commands:
        done = subprocess.run(['git', *command], cwd=ROOT, capture_output=True, text=True)
        yield from done.stdout.splitlines()  # nothing where there is no main


def tests_of(name):
    path = Path(name)
    if path.parts[0] == 'tests' and path.name.startswith('test_'):
        return [path]
    if path.suffix != '.py' or path.parts[0] not in ('edgenext_mm', 'benchmarks', 'tools'):
        return []
    folder = (
        path.parent.relative_to('edgenext_mm') if path.parts[0] == 'edgenext_mm' else path.parent
    )
    if path.parts[0] == 'tools':
        folder = Path('tools')
    names = [f'test_{path.stem}.py', f'test_{path.stem}_*.py']
    return [found for name in names for found in (ROOT / 'tests' / folder).glob(name)]


def main():
    found = {ROOT / path for name in changed_files() for path in tests_of(name)}
    paths = sorted(str(path.relative_to(ROOT)) for path in found if path.exists())
    print(*(paths or SMOKE))


if __name__ == '__main__':
    main()
