"""The paper's tables with our numbers, and the document with them."""

import json
import runpy

import pytest
from paths import ROOT

from benchmarks.figures import draw_figure1, draw_figure3
from benchmarks.paper_tables import fill_tables, to_document, to_markdown
from benchmarks.published import IMAGENET_TOP1, TABLES, deviation, format_count
from edgenext_mm.errors import UserError


@pytest.fixture(scope='module')
def tables():
    return fill_tables(TABLES)


def test_the_document_is_up_to_date(tables):
    assert (ROOT / 'docs' / 'paper_tables.md').read_text() == to_document(tables)


def test_our_costs_are_those_published(tables):
    compared = 0
    for number, lines in tables.items():
        dense = number in ('5', '6')  # their necks and heads are not published in full
        for line in lines:
            if line.row.name.startswith('EdgeNeXt') and line.row.params:
                compared += 1
                tolerances = (0.05, 0.05) if dense else (0.005, 0.01)
                assert abs(deviation(line.row.params, line.params)) <= tolerances[0], line
                assert abs(deviation(line.row.madds, line.madds)) <= tolerances[1], line
    assert compared >= 15


def test_mobilevit_costs_are_those_published_without_products_of_attention(tables):
    for line in tables['3'][:3]:
        assert line.row.name.startswith('MobileViT')
        assert abs(deviation(line.row.params, line.params)) <= 0.08
        assert abs(deviation(line.row.madds, line.madds - line.attention)) <= 0.08
        assert line.attention > 0


def test_attention_is_counted_as_by_hand(tables):
    """DeiT-T: 12 blocks, 197 tokens, 192 channels, both products."""
    (deit,) = (line for line in tables['2'] if line.row.name == 'DeiT-T')
    assert deit.attention == 12 * 2 * 197 * 197 * 192


def test_deviations_are_at_the_printed_precision():
    assert deviation('1.3G', 1_259_240_000) == 0
    assert deviation('5.6M', 5_586_832) == 0
    assert deviation('261M', 264_000_000) == pytest.approx(0.01149, abs=1e-4)
    assert format_count(1_259_240_000) == '1.26G'
    assert format_count(5_586_832) == '5.59M'
    assert format_count(260_310_000) == '260M'


def test_published_accuracies_agree_with_the_releases():
    for line in TABLES['3'].rows[3:]:
        arch = line.model.removeprefix('edgenext-').split('_')[0]
        assert float(line.accuracy) == pytest.approx(IMAGENET_TOP1[arch], abs=0.05)


def test_accuracy_comes_from_result_files_alone(tables, tmp_path):
    name = 'edgenext-xxsmall_8xb256_in1k'
    (tmp_path / f'{name}.json').write_text(json.dumps({'accuracy/top1': 12.5}))
    lines = fill_tables(['1'], results=tmp_path)['1']
    assert [line.accuracy for line in lines] == [12.5, None, None]
    assert tables['1'][0].accuracy is None
    assert '| 71.2 | 12.50 |' in to_markdown('1', lines)
    (tmp_path / f'{name}.json').write_text(json.dumps({'mIoU': 1}))
    with pytest.raises(UserError, match="has no 'accuracy/top1', only mIoU"):
        fill_tables(['1'], results=tmp_path)


def test_unknown_tables_and_folders_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"no table '11'\. Choose from 1, 2, 3"):
        fill_tables(['11'])
    with pytest.raises(UserError, match=r'folder of results .* does not exist'):
        fill_tables(['1'], results=tmp_path / 'none')


def test_figures_are_drawn(tables, tmp_path):
    for suffix in ('svg', 'png'):
        draw_figure1([*tables['2'], *tables['3']], tmp_path / f'1.{suffix}')
        draw_figure3(tables['F3'], tmp_path / f'3.{suffix}')
    text = (tmp_path / '1.svg').read_text()
    assert '<svg' in text
    assert (tmp_path / '3.png').read_bytes().startswith(b'\x89PNG')


def test_latency_is_measured_on_request(call_program):
    options = ['--table', '1', '--latency', '--rounds', '2', '--threads', '1', '--json']
    done = call_program(runpy.run_module, 'benchmarks.paper_tables', *options)
    assert all(0 < line['latency_ms'] < 1e5 for line in json.loads(done.stdout)['1'])


#: Parameters of an encoder by hand, C channels: MLP with its norm and layer scale; the rest.
def _mlp(c):
    return (4 * c * c + 4 * c) + (4 * c * c + c) + 2 * c + c


def _conv_encoder(c, kernel):
    return c * kernel * kernel + c + _mlp(c)


def _sdta_encoder(c, heads, scales, pos_encoding):
    width = -(-c // scales)
    convs = (scales - 1) * (9 * width + width)
    attention = (3 * c * c + 3 * c) + (c * c + c) + heads + 2 * c + c
    return convs + attention + _mlp(c) + (64 * c + c) * pos_encoding


def test_ablations_differ_by_what_the_encoders_hold(tables):
    """Parameters of each ablation from those of small, encoder by encoder, by hand."""
    dims, kernels, scales = (48, 96, 160, 304), (3, 5, 7, 9), (2, 2, 3, 4)
    small = 5_586_832

    def swap(stage, count=1):  # Conv. encoders in place of SDTA ones
        conv = _conv_encoder(dims[stage], kernels[stage])
        sdta = _sdta_encoder(dims[stage], 8, scales[stage], stage == 1)
        return count * (conv - sdta)

    def kernel_change(stage, count):
        return count * dims[stage] * (49 - kernels[stage] ** 2)

    none = small + swap(1) + swap(2) + swap(3)
    expected = {
        'sdta-0000': none,
        'sdta-0000-kernel-7': none + sum(kernel_change(i, n) for i, n in enumerate((3, 3, 9, 3))),
        'no-pos-encoding': small - (64 * 96 + 96),
        'no-adaptive-branching': small
        + _sdta_encoder(96, 8, 4, True) - _sdta_encoder(96, 8, 2, True)
        + _sdta_encoder(160, 8, 4, False) - _sdta_encoder(160, 8, 3, False),
        'sdta-0001': small + swap(1) + swap(2),
        'sdta-0011': small + swap(1),
        'sdta-0003': small + swap(1) + swap(2) - swap(3, 2),
        'sdta-0093': small + swap(1) - swap(2, 8) - swap(3, 2),
        'sdta-1111': small - swap(0),
        'sdta-first': small,
    }  # fmt: skip
    found = {
        line.row.model.split('_')[1]: line
        for number in ('7', '8', '9', '10')
        for line in tables[number]
        if '_sdta' in line.row.model or '_no-' in line.row.model
    }
    assert {name: line.params for name, line in found.items()} == expected
    assert found['sdta-0000'].params < small
    assert found['sdta-0093'].params > small
    assert found['sdta-0093'].madds > found['sdta-0000'].madds


def test_multiply_adds_of_sdta_throughout_stages_3_and_4_are_those_counted_by_hand(tables):
    """Per position: all convolutions and linear layers, 3 per channel of a LayerNorm, and the two
    products of the attention, C x C/heads each."""

    def conv_encoder(c, kernel):
        return c * kernel * kernel + 8 * c * c + 3 * c

    def sdta_encoder(c, heads, scales):
        convs = (scales - 1) * 9 * -(-c // scales)
        return convs + 4 * c * c + 2 * c * c // heads + 8 * c * c + 6 * c

    by_position = [
        (16 * 16, 8, sdta_encoder(160, 8, 3) - conv_encoder(160, 7)),
        (8 * 8, 2, sdta_encoder(304, 8, 4) - conv_encoder(304, 9)),
        (32 * 32, -1, sdta_encoder(96, 8, 2) + 64 * 96 - conv_encoder(96, 5)),
    ]
    expected = sum(positions * count * change for positions, count, change in by_position)
    (throughout,) = (x for x in tables['8'] if x.row.model.endswith('0093_8xb256_in1k'))
    (small,) = tables['1'][2:]
    assert throughout.madds - small.madds == expected
