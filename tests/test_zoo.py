"""Models by name. A folder takes the place of the servers with the authors' files."""

import fnmatch
import hashlib
import re
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from paths import DIGITS_CONFIG
from safetensors.torch import save_file

from edgenext_mm import EdgeNeXt, get_model, inference_model, list_models, load_model
from edgenext_mm.checkpoints.download import Source, fetch
from edgenext_mm.checkpoints.finding import find_checkpoint
from edgenext_mm.checkpoints.key_maps import rename
from edgenext_mm.checkpoints.zoo import TASKS, entries, find_config, find_weights
from edgenext_mm.config import load_config
from edgenext_mm.errors import UserError

NAME = 'edgenext-xxsmall_3rdparty_in1k'


def test_models_are_listed_by_task_and_pattern():
    everything = list_models()
    assert sorted(name for task in TASKS for name in list_models(task)) == everything
    assert 'ssdlite_edgenext-small_4xb32-200e_coco' in list_models('detection')
    assert list_models(pattern='*small_bnhs_*') == fnmatch.filter(everything, '*small_bnhs_*') != []
    with pytest.raises(UserError, match=r"Unknown task 'sleep'.*classification, detection"):
        list_models('sleep')


def test_the_ten_files_of_the_authors_releases_are_there():
    names = list_models(pretrained=True)
    urls = [source.url for name in names for source in entries()[name].sources]
    files = {url.partition('/download/')[2] for url in urls if 'github.com' in url}
    assert files == {
        *(f'v1.0/edgenext_{size}.pth' for size in ('small', 'x_small', 'xx_small')),
        *(f'v1.0/edgenext_{size}_bn_hs.pth' for size in ('small', 'x_small', 'xx_small')),
        'v1.1/edgenext_small_usi.pth',
        'v1.2/edgenext_base.pth',
        'v1.2/edgenext_base_usi.pth',
        'v1.21/edgenext_base_IN21K.pth',
    }
    assert sum('mmassets.onedl.ai' in url for url in urls) == 6


def test_all_of_timms_models_are_there():
    import timm

    urls = [source.url for entry in entries().values() for source in entry.sources]
    parts = [url.split('/') for url in urls if 'huggingface.co' in url]
    assert {tuple(p[3:5]) for p in parts} == {
        ('timm', name) for name in timm.list_pretrained('edgenext*')
    }
    assert all(p[-1] == 'model.safetensors' and p[5] == 'resolve' for p in parts)
    assert all(len(p[6]) == 40 or p[6] == 'main' for p in parts)


def test_hashes_in_file_names_are_those_of_the_table():
    for entry in entries().values():
        for source in entry.sources:
            in_name = re.search(r'-([0-9a-f]{8})\.pth', source.url)
            assert in_name is None or source.sha256 == in_name[1]


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A local server with any files by path."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            content = self.server.files.get(self.path)
            self.send_response(404 if content is None else 200)
            self.end_headers()
            self.wfile.write(content or b'')

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.files = {}
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv('EDGENEXT_MM_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    yield server
    server.shutdown()
    server.server_close()


SOURCES = [source for entry in entries().values() for source in entry.sources]


@pytest.mark.parametrize('source', SOURCES, ids=lambda source: source.url.partition('://')[2])
def test_every_source_is_fetched_and_checked_against_its_hash_and_size(
    source, host, tmp_path, monkeypatch
):
    """Small files are served under the paths of the real ones, with their own hashes and sizes."""
    content = source.url.encode() * 200
    path = urlsplit(source.url).path
    host.files[path] = content
    url = f'http://127.0.0.1:{host.server_port}{path}'
    right = Source(url, hashlib.sha256(content).hexdigest(), f'{len(content) / 1e6:.2f} MB')
    wrong_hash = replace(right, sha256=hashlib.sha256(b'other').hexdigest())
    with pytest.raises(UserError, match='its hash starts with'):
        fetch([wrong_hash])
    with pytest.raises(UserError, match=r'its size is 0\.0\d MB, not 9\.99 MB'):
        fetch([replace(right, size='9.99 MB')])
    assert not [p for p in (tmp_path / 'cache').rglob('*') if p.is_file() and p.suffix != '.lock']
    assert fetch([wrong_hash, right]).read_bytes() == content

    # The real table: other content under the name of the file, in a mirror.
    host.files[f'/mirror/{source.name}'] = content
    monkeypatch.setenv('EDGENEXT_MM_MIRROR', f'http://127.0.0.1:{host.server_port}/mirror')
    if source.sha256 or source.size:
        with pytest.raises(UserError, match=r'its (hash|size)'):
            fetch([source])
    else:
        assert fetch([source]).read_bytes() == content


def test_names_in_a_mirror_are_unique():
    names = [source.name for source in SOURCES]
    assert len(set(names)) == len(names)


def test_timms_file_serves_if_the_others_cannot_be_had(tmp_path, monkeypatch):
    """Its ending differs from that of the first source, and selects how it is read."""
    torch.manual_seed(0)
    weights = get_model('edgenext-small_rw_3rdparty_in1k', pretrained=False).state_dict()
    path = tmp_path / 'mirror' / 'edgenext_small_rw.sw_in1k.safetensors'
    path.parent.mkdir()
    save_file(rename(weights, 'ours', 'timm'), path, metadata=dict(format='pt'))
    monkeypatch.setenv('EDGENEXT_MM_MIRROR', str(path.parent))
    monkeypatch.setenv('EDGENEXT_MM_CACHE', str(tmp_path / 'cache'))
    model = get_model('edgenext-small_rw_3rdparty_in1k', device='cpu')
    torch.testing.assert_close(dict(model.state_dict()), dict(weights))
    assert fetch(['https://example.invalid/a.pth', str(path)]).suffix == '.safetensors'
    assert fetch(['https://example.invalid/a.pth', 'gone.safetensors']).is_file()  # from the cache


@pytest.mark.parametrize('name', list_models(pretrained=True))
def test_configs_of_published_weights_have_1000_classes(name):
    assert load_config(find_config(name)).model.head.num_classes == 1000


def test_a_model_comes_with_its_weights(mirror):
    model = get_model(NAME, device='cpu')
    assert not model.training
    torch.testing.assert_close(dict(model.state_dict()), dict(mirror))


def test_a_models_settings_can_be_overridden():
    model = get_model(NAME, pretrained=False, backbone=dict(out_indices=(1, 3)))
    assert model.backbone.out_indices == (1, 3)
    assert model.head.num_classes == 1000


def test_inference_by_name(mirror):
    result = inference_model(NAME, np.zeros((40, 30, 3), np.uint8), device='cpu')
    assert isinstance(result['pred_class'], str)
    assert 0 < result['pred_score'] <= 1


def test_the_name_serves_as_a_backbones_checkpoint(mirror):
    model = EdgeNeXt(init_cfg=dict(type='Pretrained', checkpoint=NAME))
    model.init_weights()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, mirror[f'backbone.{name}'])


def test_the_cache_serves_without_the_mirror(mirror, monkeypatch):
    path = find_weights(NAME)
    monkeypatch.delenv('EDGENEXT_MM_MIRROR')
    assert find_weights(NAME) == find_checkpoint(NAME) == path


def test_infer_takes_a_name_as_checkpoint(mirror, few_digits, call_tool):
    image = next((few_digits / 'val' / '3').iterdir())
    config = entries()[NAME].config
    done = call_tool('infer.py', config, image, '--checkpoint', NAME, '--json', '--device', 'cpu')
    assert 'pred_class' in done.stdout


@pytest.mark.parametrize('load', [get_model, find_checkpoint, find_weights])
def test_models_without_weights_say_how_to_train_them(load):
    name = 'gfl_edgenext-small_fpn_8xb2-1x_coco'
    with pytest.raises(UserError) as error:
        load(name)
    assert 'has no published weights' in str(error.value)
    assert f'python tools/train.py configs/detection/{name}.py' in str(error.value)


def test_similar_names_are_given_for_an_unknown_one():
    with pytest.raises(
        UserError, match=r'no model .*Similar names: edgenext-xxsmall_3rdparty_in1k'
    ):
        get_model('edgenext-xxsmal_3rdparty_in1k')
    with pytest.raises(UserError, match='There is no checkpoint edgenext_huge'):
        find_checkpoint('edgenext_huge')
    with pytest.raises(UserError, match='nor the name of a config'):
        load_model('edgenext_huge')


def test_sources_that_failed_are_listed(tmp_path, few_digits, call_tool):
    roots = [f'{s}_dataloader.dataset.data_root={few_digits}' for s in ('train', 'val', 'test')]
    done = call_tool(
        'train.py', DIGITS_CONFIG, '--work-dir', tmp_path / 'work', '--cfg-options', *roots,
        f'load_from={NAME}', status=1,
    )  # fmt: skip
    assert 'github.com/mmaaz60/EdgeNeXt/releases/download/v1.0/edgenext_xx_small.pth' in done.stderr
    assert 'mmassets.onedl.ai' in done.stderr
    assert 'EDGENEXT_MM_MIRROR' in done.stderr
