from .bad_data_hook import BadDataHook
from .checkpoint_hook import WholeCheckpointHook
from .exact_resume_hook import ExactResumeHook
from .history_hook import HistoryHook
from .interruption_hook import InterruptionHook
from .layer_decay import LayerDecayOptimWrapperConstructor
from .load_report_hook import LoadReportHook
from .loss_watch_hook import LossWatchHook
from .missed_validation_hook import MissedValidationHook
from .unwrapped import unwrapped

__all__ = [
    'BadDataHook',
    'ExactResumeHook',
    'HistoryHook',
    'InterruptionHook',
    'LayerDecayOptimWrapperConstructor',
    'LoadReportHook',
    'LossWatchHook',
    'MissedValidationHook',
    'WholeCheckpointHook',
    'unwrapped',
]
