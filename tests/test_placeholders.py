"""Placeholders in configs."""

import pytest
from mmengine.config import Config

from edgenext_mm.config import load_config
from edgenext_mm.errors import UserError
from edgenext_mm.placeholders import with_placeholders_replaced


def replaced(**settings):
    config = Config({'task': 'classification', 'data_root': 'nowhere', **settings})
    return with_placeholders_replaced(config)


def test_a_placeholder_is_the_value_and_within_text_its_text():
    config = replaced(size=(3, 4), a=dict(b=['$size', dict(c='x/$size/y')]), other='$a')
    assert config.a.b == [(3, 4), dict(c='x/(3, 4)/y')]
    assert config.other == config.a


def test_replacing_twice_changes_nothing():
    config = replaced(pretrained='a.pth', max_epochs=40, end='$warmup_epochs', n='$val_interval')
    assert (config.end, config.n) == (2, 2)
    assert with_placeholders_replaced(config) is config


def test_values_that_look_like_placeholders_are_kept(tmp_path):
    for name in ('$money', 'b'):
        (tmp_path / 'train' / name).mkdir(parents=True)
    config = dict(task='classification', data_root=str(tmp_path), x='$classes')
    config = with_placeholders_replaced(Config(config))
    assert with_placeholders_replaced(config).x == ('$money', 'b')


def test_other_configs_keep_their_dollars():
    config = Config(dict(path='$HOME/data'))
    assert with_placeholders_replaced(config) is config


@pytest.mark.parametrize(
    ('task', 'pretrained', 'expected'),
    [
        ('classification', 'a.pth', [0.5, 1, 2, 10]),
        ('classification', False, [0.5, 1, 8, 10]),
        ('detection', False, [0.5, 1, 2, 10]),
    ],
)
def test_warm_up(task, pretrained, expected):
    """Of trainings of 1, 5, 40 and 200 epochs."""
    found = [
        replaced(task=task, pretrained=pretrained, max_epochs=n, end='$warmup_epochs').end
        for n in (1, 5, 40, 200)
    ]
    assert found == expected


def test_own_settings_win_over_derived_ones():
    assert replaced(num_classes=7, head='$num_classes').head == 7
    assert replaced(lr=0.5, rate='$lr').rate == 0.5


@pytest.mark.parametrize(
    ('pretrained', 'weights', 'scale'),
    [
        (True, 'edgenext-small_3rdparty_in1k', 1e-6),
        (False, None, 1.0),
        (None, None, 1.0),
        ('own.pth', 'own.pth', 1e-6),
    ],
)
def test_weights(pretrained, weights, scale):
    init = dict(type='Pretrained', checkpoint='$weights')
    config = replaced(
        arch='small',
        pretrained=pretrained,
        init_cfg=init,
        scale='$layer_scale',
        lr_pretrained=1,
        lr_from_scratch=10,
        rate='$lr',
    )
    assert config.init_cfg == (weights and dict(init, checkpoint=weights))
    assert config.scale == scale
    assert config.rate == (1 if weights else 10)


def test_unknown_names_and_circles_are_errors():
    with pytest.raises(UserError, match=r"'\$sky_colour', but it has no setting `sky_colour`"):
        replaced(x='$sky_colour')
    with pytest.raises(UserError, match='b, a refer to each other'):
        replaced(a='$b', b='$a', c='$a')


@pytest.mark.parametrize('name', ['batch_size', 'max_epochs', 'val_interval'])
def test_counts_must_be_positive(name):
    with pytest.raises(UserError, match=f'`{name}` must be a positive integer, got 0'):
        replaced(x='$y', y=1, **{name: 0})


def test_missing_data_is_an_error_that_says_how_to_write_it():
    with pytest.raises(UserError, match=r"'nowhere' .* does not exist .*tools/import_data.py"):
        replaced(n='$num_classes')


def test_a_misspelt_setting_of_a_recipe_is_warned_of(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text("task = 'classification'\nbatch_size = 4\nx = '$batch_size'\nmax_epoch = 3\n")
    with pytest.warns(UserWarning, match=r'`max_epoch` has no effect. Did you mean `max_epochs`'):
        load_config(path)


def test_crops_have_the_size_of_the_image_or_their_own():
    def crop(**settings):
        base = dict(task='segmentation', image_size=(96, 64), x='$crop_size_hw')
        return with_placeholders_replaced(Config(base | settings)).x

    assert crop() == (64, 96)
    assert crop(crop_size=(48, 32)) == (32, 48)
    assert crop(crop_size=32) == (32, 32)
    with pytest.raises(UserError, match=r'`crop_size` must be \(width, height\) in pixels'):
        crop(crop_size=(0, 1))


def test_image_sizes_are_pairs_except_for_classification():
    def size(value, task):
        config = dict(task=task, image_size=value, x='$image_size', y='$image_size_hw')
        return with_placeholders_replaced(Config(config))

    assert size([64, 32], 'detection').x == (64, 32)
    assert size([64, 32], 'detection').y == (32, 64)
    assert size(64, 'segmentation').x == (64, 64)
    for value, task in ((0, 'detection'), ((64,), 'detection'), ('64', 'detection')):
        with pytest.raises(UserError, match=r'`image_size` must be \(width, height\) in pixels'):
            size(value, task)
    with pytest.raises(UserError, match='`image_size` must be a number of pixels'):
        with_placeholders_replaced(
            Config(dict(task='classification', image_size=(64, 64), x='$image_size'))
        )


@pytest.mark.parametrize(
    ('images', 'batch_size', 'processes', 'expected'),
    [(5, 4, 1, True), (6, 4, 1, False), (1, 4, 1, False), (5, 1, 1, False), (9, 4, 2, True)],
)
def test_a_last_batch_of_one_image_is_dropped(
    images, batch_size, processes, expected, tmp_path, monkeypatch
):
    monkeypatch.setenv('WORLD_SIZE', str(processes))
    (tmp_path / 'train' / 'a').mkdir(parents=True)
    for i in range(images):
        (tmp_path / 'train' / 'a' / f'{i}.jpg').touch()
    options = dict(data_root=str(tmp_path), batch_size=batch_size, drop='$drop_last')
    assert replaced(**options).drop is expected
