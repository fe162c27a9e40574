from .classifier import reset_classifier
from .hub import push_to_hub
from .inference import inference_model
from .model import get_model, load_model
from .retrieval import embeddings, nearest_images

__all__ = [
    'embeddings',
    'get_model',
    'inference_model',
    'load_model',
    'nearest_images',
    'push_to_hub',
    'reset_classifier',
]
