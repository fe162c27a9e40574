"""The HTML page of a report."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from . import charts
from .detection import ERRORS, MIN_IOU

#: Classes up to which the confusion matrix is shown, and pairs that are listed for more.
MAX_MATRIX, MAX_PAIRS = 30, 50


def _number(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return '-'
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return f'{value:,}'
    if isinstance(value, (float, np.floating)):
        return '-' if value == -1 else f'{value:.3f}'
    return str(value)


def render(
    numbers: dict[str, Any], images: list[dict[str, str]], curves: str | None, source: str | Path
) -> str:
    """Returns the page.

    Args:
        numbers: The content of ``report.json``.
        images: Pictures with ``data``, ``name``, ``text``, ``alt`` and ``method``, that of the
            activation map ('' without one).
        curves: Picture of the training curves as a data URI, if there is one.
        source: The checkpoint or exported file.
    """
    task = numbers['task']
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader('edgenext_mm.report', ''), autoescape=True
    )
    environment.filters['number'] = _number
    return environment.get_template('page.html').render(
        title=f'{Path(source).name}: {task.replace("_", " ")}',
        subtitle=f'{_counted(numbers["images"], "image")}, '
        f'{_counted(len(numbers["classes"]), "class")}, {numbers["facts"]["data"]}',
        warnings=_warnings(numbers),
        overall=numbers['overall'],
        metrics=numbers['metrics'],
        **_advice(numbers, source),
        classes=numbers['classes'],
        class_note=_class_note(numbers),
        confusion=_confusion(numbers['confusion']),
        charts=_charts(numbers),
        errors=[
            dict(kind=kind, count=count, meaning=ERRORS[kind])
            for kind, count in numbers.get('errors', {}).items()
        ],
        sizes=numbers.get('sizes'),
        size_note=(
            "Limits are COCO's: areas of 32 x 32 and 96 x 96 pixels. "
            + ('' if task == 'instance_segmentation' else 'The areas are those of the boxes. ')
            + 'Recall is that at the threshold above.'
        ),
        images=images,
        image_note=_image_note(task, images),
        curves=curves,
        facts=numbers['facts'],
    )


def _counted(count: int, noun: str) -> str:
    plural = f'{noun}es' if noun.endswith('s') else f'{noun}s'
    return f'{count:,} {noun if count == 1 else plural}'


def _warnings(numbers: dict[str, Any]) -> list[str]:
    key = next(k for k in ('images', 'objects', 'pixels') if k in numbers['classes'][0])
    absent = [row['class'] for row in numbers['classes'] if not row[key]]
    found = []
    if absent:
        names = ', '.join(absent[:10]) + (' ...' if len(absent) > 10 else '')
        number = _counted(len(absent), 'class')
        found.append(f'The test data have no example of {number}: {names}.')
    if numbers['images'] < 30:
        number = _counted(numbers['images'], 'image')
        found.append(f'The metrics are uncertain: {number} of test data.')
    return found


def _advice(numbers: dict[str, Any], source: str | Path) -> dict[str, str]:
    threshold = numbers.get('threshold')
    if threshold is None:
        return {}
    if 'f1' in threshold and not threshold['f1']:
        return dict(advice='No prediction is right, so no score threshold can be proposed.')
    if 'f1' in threshold:
        value = f'{threshold["value"]:.4g}'
        return dict(
            advice=f'The score threshold {value} gives the best F1, {threshold["f1"]:.3f}; 0.3 '
            f'gives {threshold["f1_at_03"]:.3f}. Use it with',
            command=f'tools/infer.py ... --score-thr {value}',
        )
    if threshold['value'] is None:
        return dict(advice='No threshold of the score gives an accuracy of 99%.')
    return dict(
        advice=f'Of the predictions with a score of {threshold["value"]:.4g} or more, at least '
        f'{threshold["accuracy"]:.0%} are right; these are {threshold["share"]:.1%} of the images.'
    )


def _class_note(numbers: dict[str, Any]) -> str:
    if 'errors' not in numbers:
        return ''
    return (
        f'Precision, recall and F1 are those at the score threshold '
        f'{numbers["threshold"]["value"]:.4g} and an IoU of {MIN_IOU}.'
    )


def _confusion(confusion: dict[str, Any]) -> dict[str, Any]:
    labels, counts = confusion['labels'], np.array(confusion['counts'])
    totals = np.maximum(counts.sum(1, keepdims=True), 1)
    shares = counts / totals
    with_background = labels[-1] == '(background)'
    note = 'The last row holds predictions without an object, the last column missed objects.'
    found: dict[str, Any] = dict(labels=labels, note=note if with_background else '')
    if len(labels) <= MAX_MATRIX:
        found['rows'] = [
            dict(
                name=name,
                cells=[
                    dict(share=f'{share:.3f}', dark=share > 0.6, text=_short(count))
                    for share, count in zip(shares[i], counts[i], strict=True)
                ],
            )
            for i, name in enumerate(labels)
        ]
        return found
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None)[:MAX_PAIRS]
    found['pairs'] = [
        dict(true=labels[i], found=labels[j], count=int(wrong[i, j]), share=float(shares[i, j]))
        for i, j in (divmod(int(k), len(labels)) for k in order)
        if wrong[i, j]
    ]
    return found


def _short(count: int) -> str:
    for size, unit in ((1e9, 'G'), (1e6, 'M'), (1e4, 'k')):
        if count >= size:
            return f'{count / (1e3 if unit == "k" else size):.3g}{unit}'
    return str(count)


def _charts(numbers: dict[str, Any]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    detects = 'errors' in numbers

    def add(svg: str, text: str) -> None:
        found.append(dict(svg=svg, text=text))

    if (curve := numbers.get('curve')) and curve['threshold']:
        title = 'Threshold' if detects else 'Threshold: accepted predictions'
        text = (
            f'Objects count as found at an IoU of {MIN_IOU} or more.'
            if detects
            else 'Precision is the accuracy of the predictions with at least this score; recall is '
            'the share of all images that are accepted and right.'
        )
        add(charts.score_chart(curve, numbers['threshold']['value'], title), text)
        if detects:
            add(charts.precision_recall_chart(curve), 'All classes together.')
    if calibration := numbers.get('calibration'):
        text = (
            f'Expected calibration error {calibration["error"]:.3f}: the mean difference of score '
            'and share of right predictions in 15 bins.'
        )
        add(charts.calibration_chart(calibration), text)
    if detects:
        errors = {kind: float(count) for kind, count in numbers['errors'].items()}
        text = f'At the score threshold {numbers["threshold"]["value"]:.4g}.'
        add(charts.bar_chart(errors, 'Errors by kind'), text)
    return found


def _image_note(task: str, images: list[dict[str, str]]) -> str:
    ranked = {
        'classification': 'The lowest probabilities of the true class.',
        'segmentation': 'The lowest shares of right pixels.',
    }.get(task, 'The lowest F1 at the threshold above.')
    methods = {image['method'] for image in images} - {''}
    return ' '.join([ranked, *(f'The activation map is {method}.' for method in methods)])
