"""Upload to and download from a local server in place of the Hugging Face Hub."""

import base64
import hashlib
import json
import shutil
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from paths import DIGITS_CONFIG
from PIL import Image
from safetensors.torch import load_file, save_file

from edgenext_mm import EdgeNeXt, inference_model, load_model, push_to_hub
from edgenext_mm.checkpoints.key_maps import rename
from edgenext_mm.checkpoints.reading import read_file
from edgenext_mm.checkpoints.zoo import find_config
from edgenext_mm.config import load_config
from edgenext_mm.errors import UserError

COMMIT = 'c0ffee' + 34 * '0'
IMAGE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)


class Hub(BaseHTTPRequestHandler):
    """The end points that uploads of small files and downloads use."""

    protocol_version = 'HTTP/1.1'

    def do_GET(self):
        self.send_file(with_content=True)

    def do_HEAD(self):
        self.send_file(with_content=False)

    def send_file(self, with_content):
        self.server.requests.append(self.path)
        if self.path.startswith('/api/'):  # who the token belongs to
            return self.answer({'error': 'Invalid user token.'}, 401)
        owner, name, _, revision, file = self.path.strip('/').split('/', 4)
        content = self.server.files.get(f'{owner}/{name}@{revision}/{file}')
        if content is None:
            self.send_response(404)
            self.send_header('X-Error-Code', 'EntryNotFound')
            self.send_header('Content-Length', '0')
            return self.end_headers()
        self.send_response(200)
        self.send_header('X-Repo-Commit', COMMIT)
        self.send_header('ETag', f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        return self.wfile.write(content) if with_content else None

    def handle_one_request(self):
        if self.server.is_down:
            self.close_connection = True
        else:
            super().handle_one_request()

    def do_POST(self):
        self.server.requests.append(self.path)
        body = self.rfile.read(int(self.headers['Content-Length']))
        host = f'http://127.0.0.1:{self.server.server_port}'
        if self.headers.get('Authorization') != 'Bearer hf_right':
            return self.answer({'error': 'Invalid user token.'}, 401)
        if self.path == '/api/repos/create':
            request = json.loads(body)
            return self.answer({'url': f'{host}/{request["organization"]}/{request["name"]}'})
        if '/preupload/' in self.path:
            files = [
                dict(path=file['path'], uploadMode='regular', shouldIgnore=False)
                for file in json.loads(body)['files']
            ]
            return self.answer(dict(files=files))
        if '/commit/' in self.path:
            _, _, _, owner, name, _, revision = self.path.split('/')
            for line in map(json.loads, body.splitlines()):
                if line['key'] == 'file':
                    path = f'{owner}/{name}@{revision}/{line["value"]["path"]}'
                    self.server.files[path] = base64.b64decode(line['value']['content'])
            url = f'{host}/{owner}/{name}/commit/{COMMIT}'
            return self.answer(dict(commitUrl=url, commitOid=COMMIT, hookOutput=''))
        return self.answer(dict(errors=[], warnings=[]))  # of the card

    def answer(self, content, status=200):
        content = json.dumps(content).encode()
        self.send_response(status)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch):
    server = ThreadingHTTPServer(('127.0.0.1', 0), Hub)
    server.files, server.requests, server.is_down = {}, [], False
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv('HF_ENDPOINT', f'http://127.0.0.1:{server.server_port}')
    monkeypatch.setenv('HF_TOKEN', 'hf_right')
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.setenv('EDGENEXT_MM_CACHE', str(tmp_path / 'cache'))
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def run(digits_checkpoint, tmp_path):
    """A checkpoint of epoch 3, beside the logs of its run."""
    content = dict(torch.load(digits_checkpoint))
    content['meta'] = dict(content['meta'], epoch=3, iter=30, seed=7)
    torch.save(content, tmp_path / 'epoch_3.pth')
    logs = tmp_path / '20260101_000000' / 'vis_data'
    logs.mkdir(parents=True)
    lines = [
        {'loss': 0.5, 'step': 3},
        {'accuracy/top1': 50.0, 'data_time': 0.1, 'time': 0.2, 'step': 2},
        {'accuracy/top1': 91.25, 'data_time': 0.1, 'time': 0.2, 'step': 3},
        {'accuracy/top1': 12.0, 'step': 4},
        {'accuracy/top1': 13.0, 'step': 30},  # epoch 30, not iteration 30
    ]
    (logs / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)))
    return tmp_path / 'epoch_3.pth'


def test_what_was_uploaded_predicts_the_same(hub, run, tmp_path, call_tool):
    assert push_to_hub(DIGITS_CONFIG, run, 'me/digits', license='mit') == 'hf://me/digits'
    assert hub.files.keys() == {
        f'me/digits@main/{file}' for file in ('README.md', 'config.json', 'model.safetensors')
    }
    expected = inference_model(load_model(DIGITS_CONFIG, run, 'cpu'), IMAGE)
    model = load_model('hf://me/digits', device='cpu')
    actual = inference_model(model, IMAGE)
    assert actual['pred_class'] == expected['pred_class']
    np.testing.assert_array_equal(actual['pred_scores'], expected['pred_scores'])
    assert model.dataset_meta['classes'] == list('0123456789')
    # As the start of other models: complete, and for a backbone.
    torch.testing.assert_close(
        dict(load_model(DIGITS_CONFIG, 'hf://me/digits', 'cpu').state_dict()),
        dict(read_file(run)['state_dict']),
    )
    backbone = EdgeNeXt(init_cfg=dict(type='Pretrained', checkpoint='hf://me/digits'))
    backbone.init_weights()
    weight = read_file(run)['state_dict']['backbone.stages.0.0.dwconv.weight']
    torch.testing.assert_close(backbone.state_dict()['stages.0.0.dwconv.weight'], weight)
    # By the tool.
    path = tmp_path / 'image.png'
    Image.fromarray(IMAGE[..., ::-1]).save(path)
    done = call_tool('infer.py', 'hf://me/digits', path, '--json', '--device', 'cpu')
    # Loggers of this process print before the results.
    found = json.loads(done.stdout[done.stdout.index('[\n') :])
    assert found[0]['pred_class'] == expected['pred_class']
    # Downloaded once.
    assert sum('model.safetensors' in path for path in hub.requests) >= 2
    count = len(hub.requests)
    load_model('hf://me/digits', device='cpu')
    assert not [path for path in hub.requests[count:] if path.startswith('GET')]


def test_the_card_tells_what_config_checkpoint_and_logs_do(hub, run, tmp_path, call_tool):
    folder = tmp_path / 'files'
    done = call_tool(
        'push_to_hub.py', DIGITS_CONFIG, run, 'me/digits', '--license', 'mit', '--dry-run', folder
    )
    assert done.stdout.strip().endswith(str(folder))
    assert hub.requests == []
    card = ModelCard.load(folder / 'README.md')
    assert card.data.license == 'mit'
    assert card.data.pipeline_tag == 'image-classification'
    assert card.data.library_name == 'edgenext_mm'
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value) == ('accuracy/top1', 91.25)
    for text in (
        "EdgeNeXt 'xxsmall'",
        '1,159,906',  # 1,327,216 - 1000 * 169 + 10 * 169
        'at 64x64',
        'Epochs: 3',
        'Seed: 7',
        '`accuracy/top1`: 91.25',
        "inference_model('hf://me/digits', 'image.jpg')",
        '10 classes and predicts no others: 0, 1, 2',
    ):
        assert text in card.text
    weights = load_file(folder / 'model.safetensors')
    torch.testing.assert_close(weights, dict(read_file(run)['state_dict']))
    config = json.loads((folder / 'config.json').read_text())
    assert str(tmp_path) not in json.dumps(config) + card.content
    with pytest.raises(UserError, match='is not empty'):
        push_to_hub(DIGITS_CONFIG, run, 'me/digits', folder=folder)


def test_a_card_without_logs_and_licence_says_so(digits_checkpoint, tmp_path):
    alone = tmp_path / 'alone'
    alone.mkdir()
    shutil.copy(digits_checkpoint, alone / 'weights.pth')
    push_to_hub(DIGITS_CONFIG, alone / 'weights.pth', 'me/digits', folder=tmp_path / 'files')
    card = ModelCard.load(tmp_path / 'files' / 'README.md')
    assert 'No logs with metrics were found' in card.text
    assert 'None was stated' in card.text
    assert card.data.license is None
    assert card.data.eval_results is None


def test_a_distilled_model_is_uploaded_without_its_teacher(hub, digits_checkpoint, tmp_path):
    config = load_config(find_config('edgenext-xxsmall_digits-distilled'))
    config.model.teacher_checkpoint = str(tmp_path / 'secret' / 'teacher.pth')
    push_to_hub(config, digits_checkpoint, 'me/student')
    assert b'teacher' not in hub.files['me/student@main/config.json']
    model = load_model('hf://me/student', device='cpu')
    assert type(model).__name__ == 'ImageClassifier'
    weights = dict(torch.load(digits_checkpoint)['state_dict'])
    torch.testing.assert_close(dict(model.state_dict()), weights)


def test_timms_models_are_checkpoints(hub, digits_checkpoint, tmp_path):
    weights = rename(torch.load(digits_checkpoint)['state_dict'], 'ours', 'timm')
    save_file(weights, tmp_path / 'model.safetensors', metadata=dict(format='pt'))
    content = (tmp_path / 'model.safetensors').read_bytes()
    hub.files['timm/edgenext_digits@v1/model.safetensors'] = content
    model = load_model(DIGITS_CONFIG, 'hf://timm/edgenext_digits@v1', 'cpu')
    torch.testing.assert_close(model.head.fc.bias.detach(), weights['head.fc.bias'])
    hub.files['timm/edgenext_digits@v1/config.json'] = b'{"architecture": "edgenext_xx_small"}'
    with pytest.raises(UserError, match=r'not written by edgenext_mm.*as a checkpoint'):
        load_model('hf://timm/edgenext_digits@v1')


def test_modules_that_a_config_names_are_not_imported(hub):
    config = dict(
        custom_imports=dict(imports=['edgenext_mm', 'antigravity']),
        model={},
        test_dataloader=dict(dataset=dict(pipeline=[])),
    )
    hub.files['me/other@main/config.json'] = json.dumps(config).encode()
    with pytest.raises(UserError, match='needs the modules antigravity, which are not imported'):
        load_model('hf://me/other')


@pytest.mark.parametrize(
    ('address', 'message'),
    [
        ('hf://digits', r'no address .* hf://OWNER/NAME'),
        ('hf://me/none', r'config\.json of hf://me/none could not be downloaded.*HF_TOKEN'),
    ],
)
def test_wrong_addresses_are_explained(address, message, hub):
    with pytest.raises(UserError, match=f'(?s){message}'):
        load_model(address)


def test_a_hub_that_hangs_up_is_explained(hub, run):
    hub.is_down = True
    with pytest.raises(UserError, match=r'(?s)config\.json of hf://me/digits could not be down'):
        load_model('hf://me/digits')
    with pytest.raises(UserError, match=r'(?s)upload to me/digits failed'):
        push_to_hub(DIGITS_CONFIG, run, 'me/digits')


def test_a_missing_client_is_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    with pytest.raises(UserError, match=r"not installed: `pip install 'edgenext_mm\[hub\]'`"):
        load_model('hf://me/digits')


def test_uploads_that_fail_are_explained(hub, run, monkeypatch):
    with pytest.raises(UserError, match="'me/a/b' is no name of a repository"):
        push_to_hub(DIGITS_CONFIG, run, 'me/a/b')
    monkeypatch.setenv('HF_TOKEN', 'hf_wrong')
    with pytest.raises(UserError, match=r'(?s)upload to me/digits failed.*write access'):
        push_to_hub(DIGITS_CONFIG, run, 'me/digits')
    assert hub.files == {}
