from .load_report_hook import LoadReportHook
from .loss_watch_hook import LossWatchHook
from .unwrapped import unwrapped

__all__ = ['LoadReportHook', 'LossWatchHook', 'unwrapped']
