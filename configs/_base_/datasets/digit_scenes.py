# Digit scenes, for all dense tasks. mmengine does not merge two bases with the same keys, so the
# settings have their own keys, and the configs insert them into the data loaders of their recipes.
digit_scenes = dict(
    data_root='data/digit_scenes/',
    data_preparation='Make it with `python tools/dataset_converters/digit_scenes.py`.',
    metainfo=dict(classes=tuple('0123456789')),
    # On two cores, a worker process for the data costs more than it saves.
    loader=dict(num_workers=0, persistent_workers=False),
)
