from .inference import inference_model
from .model import load_model

__all__ = ['inference_model', 'load_model']
