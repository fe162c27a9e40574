"""Docstrings of the public functions, classes and methods of the package and the benchmarks."""

import importlib
import inspect
import pkgutil
import re

import pytest

import benchmarks
import edgenext_mm

MODULES = [
    module.name
    for package in (edgenext_mm, benchmarks)
    for module in pkgutil.walk_packages(package.__path__, f'{package.__name__}.')
]


def public_objects(module):
    """Name and object of each public function, class and method that a module defines."""
    for name, value in vars(module).items():
        own = getattr(value, '__module__', None) == module.__name__
        if name.startswith('_') or not own or not (inspect.isclass(value) or callable(value)):
            continue
        yield name, value
        if inspect.isclass(value):
            for method in vars(value):
                if not method.startswith('_') and inspect.isfunction(getattr(value, method)):
                    yield f'{name}.{method}', getattr(value, method)


def documented_arguments(docstring):
    """The names in the section ``Args``, or None if there is no such section."""
    found = re.search(r'^Args:\n(.*?)(?=\n\S|\Z)', docstring, re.DOTALL | re.MULTILINE)
    if found is None:
        return None
    entries = re.findall(r'^ {4}([\w*][\w*, ]*)(?: \([^)]*\))?:', found[1], re.MULTILINE)
    return [name.lstrip('*') for entry in entries for name in entry.split(', ')]


@pytest.mark.parametrize('module', MODULES)
def test_documented_arguments_are_those_of_the_signature(module):
    faults = []
    for name, value in public_objects(importlib.import_module(module)):
        docstring = inspect.getdoc(value)
        if not docstring and '.' not in name and name not in ('main', 'parse_args'):
            faults.append(f'{name} has no docstring')
        documented = documented_arguments(docstring or '')
        if documented is None:
            continue
        arguments = [p for p in inspect.signature(value).parameters if p != 'self']
        if documented != arguments:
            faults.append(f'{name} documents {documented}, but takes {arguments}')
    assert faults == []


def test_documented_arguments_end_with_their_section():
    docstring = 'A function.\n\nArgs:\n    a, c: Two,\n        b: nothing.\n    *d: All others.\n'
    assert documented_arguments(docstring + '\nReturns:\n    e: No argument.') == ['a', 'c', 'd']
    assert documented_arguments('A function.') is None
