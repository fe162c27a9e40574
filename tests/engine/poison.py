"""Hooks that simulate a bad sample or an overflow."""

import math

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class PoisonImages(Hook):
    """Puts infinity into an image of some iterations, counted from 1."""

    def __init__(self, iterations, rank=0):
        self.iterations = iterations
        self.rank = rank

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 in self.iterations and get_rank() == self.rank:
            images = [image.float() for image in data_batch['inputs']]
            images[0][:, 0, 0] = math.inf
            data_batch['inputs'] = images


@HOOKS.register_module()
class PoisonGradients(Hook):
    """Makes a gradient infinite in some iterations, although the loss is finite."""

    def __init__(self, iterations):
        self.iterations = iterations

    def before_train(self, runner):
        weight = next(runner.model.parameters())
        weight.register_hook(
            lambda g: g * math.inf if runner.iter + 1 in self.iterations else torch.clone(g)
        )
