from .bad_data_hook import BadDataHook
from .batch_check_hook import BatchCheckHook
from .checkpoint_hook import WholeCheckpointHook
from .exact_resume_hook import ExactResumeHook
from .history_hook import HistoryHook
from .holding_hook import HoldingHook, released_hooks
from .interruption_hook import InterruptionHook
from .loss_watch_hook import LossWatchHook
from .missed_validation_hook import MissedValidationHook

__all__ = [
    'BadDataHook',
    'BatchCheckHook',
    'ExactResumeHook',
    'HistoryHook',
    'HoldingHook',
    'InterruptionHook',
    'LossWatchHook',
    'MissedValidationHook',
    'WholeCheckpointHook',
    'released_hooks',
]
