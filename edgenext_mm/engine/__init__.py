from .load_report_hook import LoadReportHook

__all__ = ['LoadReportHook']
