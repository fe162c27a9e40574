from .checkpoint_hook import WholeCheckpointHook
from .exact_resume_hook import ExactResumeHook
from .interruption_hook import InterruptionHook
from .missed_validation_hook import MissedValidationHook

__all__ = [
    'ExactResumeHook',
    'InterruptionHook',
    'MissedValidationHook',
    'WholeCheckpointHook',
]
