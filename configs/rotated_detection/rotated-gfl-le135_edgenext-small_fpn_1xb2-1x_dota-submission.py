# Testing writes the file for DOTA's evaluation server: predictions on the test split, whose labels
# are not public. The predictions of patches are merged into images.
_base_ = 'rotated-gfl-le135_edgenext-small_fpn_1xb2-1x_dota.py'

test_dataloader = dict(
    dataset=dict(
        ann_file='',
        data_prefix=dict(img_path='test/images/'),
        pipeline=_base_.test_pipeline,
    )
)
test_evaluator = dict(
    format_only=True,
    merge_patches=True,
    outfile_prefix='work_dirs/dota_submission/Task1',
)
