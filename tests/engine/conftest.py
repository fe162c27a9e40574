import pytest


@pytest.fixture
def digits_training(digits_training):
    """Gives configs that train a small model on a few digits, in this process."""

    def config(batch_size, max_epochs):
        config = digits_training(batch_size, max_epochs)
        config.model.backbone.arch = dict(depths=(1, 1, 1, 1), dims=(24, 48, 88, 168))
        for split in ('train', 'val'):
            config[f'{split}_dataloader'].dataset.pipeline[1].scale = 32
        return config

    return config
