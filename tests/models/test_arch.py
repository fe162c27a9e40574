from copy import deepcopy

import pytest

from edgenext_mm.errors import UserError
from edgenext_mm.models import ARCHS, Arch
from edgenext_mm.models.arch import build_arch

# name: depths, dims, num_heads, norm, act (the table of the paper)
PAPER = {
    'xxsmall': ((2, 2, 6, 2), (24, 48, 88, 168), 4, 'LN', 'GELU'),
    'xsmall': ((3, 3, 9, 3), (32, 64, 100, 192), 4, 'LN', 'GELU'),
    'small': ((3, 3, 9, 3), (48, 96, 160, 304), 8, 'LN', 'GELU'),
    'base': ((3, 3, 9, 3), (80, 160, 288, 584), 8, 'LN', 'GELU'),
    'xxsmall_bnhs': ((2, 2, 6, 2), (24, 48, 88, 168), 4, 'BN', 'HSwish'),
    'xsmall_bnhs': ((3, 3, 9, 3), (32, 64, 100, 192), 4, 'BN', 'HSwish'),
    'small_bnhs': ((3, 3, 9, 3), (48, 96, 160, 304), 8, 'BN', 'HSwish'),
    # not of the paper, but of timm
    'small_rw': ((3, 3, 9, 3), (48, 96, 192, 384), 8, 'LN', 'GELU'),
}


@pytest.mark.parametrize('name', {**PAPER, **ARCHS})
def test_a_name_gives_the_architecture_of_the_paper(name):
    arch = build_arch(name)
    depths, dims, num_heads, norm, act = PAPER[name]
    assert (arch.depths, arch.dims, arch.norm, arch.act) == (depths, dims, norm, act)
    assert arch.num_heads == (num_heads,) * 4
    assert arch.kernel_sizes == (3, 5, 7, 9)
    assert arch.num_sdta == (0, 1, 1, 1)
    assert arch.scales == (2, 2, 3, 4)
    assert arch.pos_encoding == (False, True, False, False)
    assert arch.sdta_first == (False,) * 4
    switches = arch.conv_bias, arch.overlapping_stem, arch.downsample_encoders
    assert switches == ((False, True, True) if name == 'small_rw' else (True, False, False))
    assert arch.name == name


def test_stages_list_the_encoders_in_order():
    conv = [('conv', kernel) for kernel in (3, 5, 7, 9)]
    assert build_arch('xxsmall').stages == (
        (24, 'LN', (conv[0], conv[0]), 'patch', True),
        (48, 'LN', (conv[1], ('sdta', 4, 2, True)), 'layer', True),
        (88, 'LN', (*[conv[2]] * 5, ('sdta', 4, 3, False)), 'layer', True),
        (168, 'LN', (conv[3], ('sdta', 4, 4, False)), 'layer', True),
    )


@pytest.mark.parametrize(
    ('sdta_first', 'order'),
    [(False, ['conv', 'conv', 'sdta']), (True, ['sdta', 'conv', 'conv'])],
)
def test_sdta_encoders_come_last_or_first(sdta_first, order):
    arch = build_arch(dict(base='xsmall', sdta_first=sdta_first))
    assert [encoder[0] for encoder in arch.stages[3].encoders] == order


def test_an_arch_is_returned_unchanged():
    arch = Arch(depths=(1, 1, 1, 1), dims=(8, 8, 8, 8))
    assert build_arch(arch) is arch


def test_a_dict_needs_only_depths_and_dims():
    arch = build_arch(dict(depths=[1, 1, 3, 1], dims=[16, 24, 32, 64]))
    assert (arch.depths, arch.dims) == ((1, 1, 3, 1), (16, 24, 32, 64))
    assert (arch.norm, arch.act, arch.kernel_sizes) == ('LN', 'GELU', (3, 5, 7, 9))


def test_a_base_gives_the_other_fields():
    arch = build_arch(dict(base='small_bnhs', depths=(1, 1, 3, 1)))
    assert arch.depths == (1, 1, 3, 1)
    assert (arch.dims, arch.num_heads) == ((48, 96, 160, 304), (8, 8, 8, 8))
    assert (arch.norm, arch.act) == ('BN', 'HSwish')


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('depths', 2),
        ('dims', 32),
        ('num_heads', 2),
        ('kernel_sizes', 7),
        ('num_sdta', 1),
        ('sdta_first', True),
        ('scales', 2),
        ('pos_encoding', True),
    ],
)
def test_one_value_counts_for_all_stages(field, value):
    one = build_arch(dict(base='xxsmall', **{field: value}))
    each = build_arch(dict(base='xxsmall', **{field: [value] * 4}))
    assert getattr(one, field) == (value,) * 4
    assert one == each


def test_the_dict_of_the_caller_is_not_changed():
    arch = dict(base='xxsmall', depths=[1, 1, 3, 1])
    before = deepcopy(arch)
    build_arch(arch)
    assert arch == before


def test_the_fields_of_a_variant_give_its_name():
    arch = build_arch(dict(depths=(2, 2, 6, 2), dims=(24, 48, 88, 168)))
    assert arch.name == 'xxsmall'
    assert "'xxsmall'" in str(arch)


def test_a_custom_architecture_has_no_name():
    arch = build_arch(dict(base='xxsmall', depths=(1, 1, 3, 1)))
    assert arch.name is None
    assert '(1, 1, 3, 1)' in str(arch)


@pytest.mark.parametrize(
    ('arch', 'texts'),
    [
        ('tiny', ["'tiny'", *PAPER]),
        (dict(base='tiny'), ["'tiny'", *PAPER]),
        (3, ['`arch`', 'a name or a dict', 'int', '3']),
        (dict(base='xxsmall', depth=2), ["unknown ['depth']", 'depths', 'num_sdta', 'norm']),
        (dict(depths=2), ["missing ['dims']", '`depths` and `dims`', '`base`', *PAPER]),
        (dict(), ["missing ['depths', 'dims']"]),
        (dict(kernel=3), ["unknown ['kernel']", "missing ['depths', 'dims']"]),
    ],
)
def test_errors_for_wrong_names_and_keys_list_the_choices(arch, texts):
    with pytest.raises(UserError) as error:
        build_arch(arch)
    for text in texts:
        assert text in str(error.value)


@pytest.mark.parametrize(
    ('fields', 'texts'),
    [
        (dict(dims=(24, 48, 88)), ['`dims`', 'each of the 4 stages', 'got 3: (24, 48, 88)']),
        (dict(depths=[2] * 5), ['`depths`', 'each of the 4 stages', 'got 5', '[2, 2, 2, 2, 2]']),
        (dict(norm='GN'), ['`norm`', 'LN, BN', "'GN'"]),
        (dict(depths=(2, 0, 6, 2)), ['`depths`', 'at least 1', 'got 0 in stage 1']),
        (dict(dims=(0, 48, 88, 168)), ['`dims`', 'at least 1', 'got 0 in stage 0']),
        (dict(kernel_sizes=(-1, 3, 3, 3)), ['`kernel_sizes`', 'odd', 'got -1 in stage 0']),
        (dict(kernel_sizes=(3, 4, 7, 9)), ['`kernel_sizes`', 'odd', 'got 4 in stage 1']),
        (dict(num_heads=5), ['`num_heads`', 'a divisor of the dim 48', 'got 5 in stage 1']),
        (dict(num_heads=(4, 4, 0, 4)), ['`num_heads`', 'dim 88', 'got 0 in stage 2']),
        (dict(num_sdta=(0, 1, 7, 1)), ['`num_sdta`', '0 and the depth 6', '7 in stage 2']),
        (dict(num_sdta=(0, -1, 1, 1)), ['`num_sdta`', 'between 0', 'got -1 in stage 1']),
        (dict(scales=(2, 1, 3, 4)), ['`scales`', 'at least 2', 'got 1 in stage 1']),
        # 88 channels in 12 groups of ceil(88 / 12) = 8 end with the 11th.
        (dict(scales=(2, 2, 12, 4)), ['`scales`', 'last group of 88', 'got 12 in stage 2']),
        (dict(conv_bias=0), ['`conv_bias`', 'True or False', 'got 0']),
        (dict(downsample_encoders=True), ['`dims`', 'a multiple of the dim 48', '88 in stage 2']),
        (
            dict(downsample_encoders=True, dims=(8, 8, 16, 16), sdta_first=True),
            ['`num_sdta`', 'lowers the resolution', 'got 1 in stage 1'],
        ),
    ],
)
def test_errors_for_wrong_values_name_field_stage_and_rule(fields, texts):
    with pytest.raises(UserError) as error:
        build_arch(dict(base='xxsmall', **fields))
    for text in texts:
        assert text in str(error.value)


@pytest.mark.parametrize('fields', [dict(num_heads=5), dict(scales=1)])
def test_attention_is_not_checked_without_sdta_encoders(fields):
    arch = build_arch(dict(base='xxsmall', num_sdta=0, **fields))
    assert {encoder[0] for stage in arch.stages for encoder in stage.encoders} == {'conv'}
