"""Upload of models to the Hugging Face Hub, with a model card."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from mmengine.config import Config
from safetensors.torch import save_file
from torch import nn

from ..checkpoints.finding import find_checkpoint, read_checkpoint
from ..checkpoints.hub import CONFIG, PREFIX, WEIGHTS, import_hub
from ..deployment.content import model_config
from ..errors import UserError
from ..files import new_folder
from .model import load_model
from .model_card import model_card


def push_to_hub(
    config: str | Path | Config,
    checkpoint: str | Path,
    repo_id: str,
    license: str | None = None,
    private: bool = False,
    folder: str | Path | None = None,
) -> str:
    """Uploads a model to the Hugging Face Hub, with a model card that is written from its run.

    The weights are ``model.safetensors`` with the names of this package. ``config.json`` is what
    inference needs of the config, without code. ``README.md`` is the card: architecture, data,
    metrics of the run, cost, licence, use and limits, as far as config and work folder tell.

    Args:
        config: As for :func:`~edgenext_mm.load_model`.
        checkpoint: Path, URL or name of the weights. The metrics are read from the logs beside it.
        repo_id: ``OWNER/NAME``; the repository is created if it does not exist.
        license: Licence of the weights, an identifier of the hub such as ``apache-2.0``.
            Default: None; the card then says that none was stated.
        private: Whether a new repository is private. Default: False.
        folder: Write the files to this folder, which must be new or empty, and upload nothing.
            Default: None.

    Returns:
        The address of the model, ``hf://OWNER/NAME``, or the path of the folder.

    Raises:
        UserError: If the model cannot be loaded, the folder is not empty, huggingface_hub is not
            installed, or the upload fails.

    Example:
        >>> push_to_hub('birds.py', 'best.pth', 'me/birds', license='mit')  # doctest: +SKIP
        'hf://me/birds'
    """
    hub = import_hub()
    try:
        hub.utils.validate_repo_id(repo_id)
    except ValueError as error:
        raise UserError(f'{repo_id!r} is no name of a repository: {error}') from error
    model = load_model(config, checkpoint, 'cpu')
    content = read_checkpoint(checkpoint)
    card = model_card(model, content, find_checkpoint(checkpoint), repo_id, license)
    if folder is not None:
        if Path(folder).is_dir() and any(Path(folder).iterdir()):
            raise UserError(f'{folder} is not empty. Give another folder.')
        with new_folder(folder) as temporary:
            _write_files(model, card, temporary)
        return str(folder)
    with tempfile.TemporaryDirectory() as temporary:
        _write_files(model, card, Path(temporary))
        api = hub.HfApi(endpoint=os.environ.get('HF_ENDPOINT'))
        try:
            api.create_repo(repo_id, private=private, exist_ok=True)
            api.upload_folder(
                repo_id=repo_id,
                folder_path=temporary,
                commit_message='Upload with edgenext_mm',
            )
        except Exception as error:  # which ones depends on the client's version
            raise UserError(
                f'The upload to {repo_id} failed: {str(error).strip()} Uploads need a token with '
                'write access: run `hf auth login`, or set HF_TOKEN.'
            ) from error
    return PREFIX + repo_id


def _write_files(model: nn.Module, card: str, folder: Path) -> None:
    config = model_config(model)
    if config['model']['type'].endswith('DistilledClassifier'):  # the teacher is not uploaded
        config['model']['type'] = 'ImageClassifier'
        for name in ('teacher', 'teacher_checkpoint', 'kd_weight', 'temperature'):
            config['model'].pop(name, None)
    dataset = config['test_dataloader']['dataset']
    known = {k: model.dataset_meta[k] for k in ('classes', 'palette') if k in model.dataset_meta}
    if known:
        dataset['metainfo'] = known
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / WEIGHTS, metadata=dict(format='pt'))
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + '\n')
    (folder / 'README.md').write_text(card)
