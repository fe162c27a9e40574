from .checkpoint_hook import WholeCheckpointHook
from .early_stopping_hook import EarlyStoppingHook
from .exact_resume_hook import ExactResumeHook
from .interruption_hook import InterruptionHook
from .missed_validation_hook import MissedValidationHook
from .quantization_hook import QuantizationAwareHook
from .validation_loss_hook import ValidationLossHook

__all__ = [
    'EarlyStoppingHook',
    'ExactResumeHook',
    'InterruptionHook',
    'MissedValidationHook',
    'QuantizationAwareHook',
    'ValidationLossHook',
    'WholeCheckpointHook',
]
