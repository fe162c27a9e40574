import json

import pytest
from PIL import Image

TOOL = 'dataset_converters/coco_to_voc.py'


@pytest.fixture
def coco(tmp_path):
    (tmp_path / 'val2017').mkdir()
    Image.new('RGB', (60, 50)).save(tmp_path / 'val2017' / '1.jpg')
    content = dict(
        images=[dict(id=1, file_name='1.jpg', height=50, width=60)],
        annotations=[
            dict(id=1, image_id=1, category_id=3, segmentation=[[0, 0, 60, 0, 60, 25, 0, 25]])
        ],
        categories=[dict(id=3, name='couch')],
    )
    (tmp_path / 'instances.json').write_text(json.dumps(content))
    return tmp_path / 'instances.json', tmp_path / 'val2017', tmp_path / 'out'


def test_it_reports_what_it_wrote_and_left_out(coco, call_tool):
    out = coco[2]
    done = call_tool(TOOL, *coco)
    assert '1 images (1 masks written, 0 existed); 0 skipped' in done.stdout
    assert (out / 'ImageSets/Segmentation/val2017.txt').read_text() == '1\n'
    with Image.open(out / 'SegmentationClass/1.png') as mask:
        assert mask.getcolors() == [(60 * 25, 0), (60 * 25, 18)]
    done = call_tool(TOOL, *coco, '--min-pixels', 2000)
    assert '0 images' in done.stdout
    assert '1 skipped, with fewer than 2000 labelled pixels' in done.stdout


def test_it_fails_in_one_paragraph(coco, call_tool):
    coco[0].unlink()
    done = call_tool(TOOL, *coco, status=1)
    assert done.stderr.startswith('error: There is no annotation file')
    assert 'Traceback' not in done.stderr
