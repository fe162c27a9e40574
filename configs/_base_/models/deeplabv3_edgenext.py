# DeepLabv3 with EdgeNeXt at output stride 16. Other configs override the arch and `in_channels`.
# The width of the paper's decoder is unpublished. With 96 channels, small has 6.55M parameters and
# 8.50G MAdds at 512x512 (paper: 6.5M and 8.7G).
default_scope = 'mmseg'
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        # Pads right and bottom, in training and evaluation; padded labels are 255.
        size=(512, 512),
        test_cfg=dict(size=(512, 512)),
    ),
    backbone=dict(
        type='edgenext_mm.EdgeNeXt',
        arch='xxsmall',
        output_stride=16,
        init_cfg=dict(type='Pretrained', checkpoint='edgenext-xxsmall_3rdparty_in1k'),
    ),
    decode_head=dict(
        type='ASPPHead',
        in_channels=168,
        in_index=0,
        channels=96,
        dilations=(1, 6, 12, 18),
        dropout_ratio=0.1,
        num_classes=21,
        # Not SyncBN, which only trains on GPUs; 16 images per GPU are enough.
        norm_cfg=dict(type='BN'),
        align_corners=False,
        # The mean over labelled pixels. mmseg's default also counts ignored pixels.
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
visualizer = dict(type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
# Each GPU has its own BatchNorm statistics; evaluation and checkpoints use their mean.
custom_hooks = [dict(type='SyncBuffersHook')]
