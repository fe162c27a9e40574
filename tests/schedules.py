import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS


def learning_rates(config, epoch_length):
    """The learning rate of each iteration of a config's training."""
    parameter = torch.zeros(1, requires_grad=True)
    wrapper = OptimWrapper(torch.optim.SGD([parameter], config.optim_wrapper.optimizer.lr))
    schedulers = []
    for settings in map(dict, config.param_scheduler):
        kind = PARAM_SCHEDULERS.get(settings.pop('type'))
        if settings.pop('convert_to_iter_based', False):
            settings['epoch_length'], kind = epoch_length, kind.build_iter_from_epoch
        schedulers.append(kind(**settings, optimizer=wrapper.optimizer))
    rates = []
    for _ in range(config.train_cfg.max_epochs * epoch_length):
        rates.append(wrapper.optimizer.param_groups[0]['lr'])
        wrapper.optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return rates
