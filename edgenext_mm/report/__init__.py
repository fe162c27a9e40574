"""The report on a trained model: numbers, curves and pictures on one page."""
