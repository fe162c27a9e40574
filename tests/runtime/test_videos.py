"""Videos, streams and patterns of file names."""

import json
import warnings
from functools import partial

import cv2
import numpy as np
import pytest

from edgenext_mm import inference_model
from edgenext_mm.apis.inference import iterate_results
from edgenext_mm.errors import UserError
from edgenext_mm.runtime.sources import is_video
from edgenext_mm.runtime.videos import Video, iterate_video, writing_video

NUM_FRAMES, RATE = 12, 8.0


@pytest.fixture
def video(tmp_path):
    """Frames whose brightness is 20 times their number."""
    path = tmp_path / 'clip.mp4'
    with writing_video(path, RATE) as writer:
        for i in range(NUM_FRAMES):
            writer.write(np.full((64, 96, 3), 20 * i, np.uint8))
    return path


def test_written_frames_are_read_again(video):
    opened = Video(video)
    assert (opened.rate, opened.num_frames) == (RATE, NUM_FRAMES)
    frames = list(opened)
    assert [frame.number for frame in frames] == list(range(NUM_FRAMES))
    assert frames[4].time == pytest.approx(4 / RATE)
    for i, frame in enumerate(frames):
        assert frame.image.shape == (64, 96, 3)
        assert abs(float(frame.image.mean()) - 20 * i) < 4


@pytest.mark.parametrize('batch_size', [1, 5])
def test_frames_have_the_results_of_single_images(video, classifier, batch_size):
    predict = partial(iterate_results, classifier, batch_size=batch_size)
    found = list(iterate_video(Video(video), predict))
    assert len(found) == NUM_FRAMES
    for frame, result in found:
        single = inference_model(classifier, frame.image)
        np.testing.assert_allclose(result['pred_scores'], single['pred_scores'], atol=1e-5)


def test_the_tool_writes_a_video_and_a_line_per_frame(
    video, call_tool, digits_checkpoint, tmp_path
):
    out = tmp_path / 'out'
    call_tool(
        'infer.py', 'edgenext-xxsmall_digits', video, '--checkpoint', digits_checkpoint,
        '--out', out, '--device', 'cpu',
    )  # fmt: skip
    assert Video(out / 'clip.mp4').num_frames == NUM_FRAMES
    lines = [json.loads(line) for line in (out / 'clip.jsonl').read_text().splitlines()]
    assert [line['frame'] for line in lines] == list(range(NUM_FRAMES))
    assert lines[3]['time'] == pytest.approx(3 / RATE)
    assert 'pred_class' in lines[0]


def test_a_failure_leaves_no_half_written_video(tmp_path):
    path = tmp_path / 'clip.mp4'
    path.write_bytes(b'the old one')

    def fail():
        with writing_video(path, RATE) as writer:
            writer.write(np.zeros((64, 96, 3), np.uint8))
            raise ValueError('on purpose')

    with pytest.raises(ValueError, match='on purpose'):
        fail()
    assert path.read_bytes() == b'the old one'
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_a_video():
    assert is_video('a/b.MP4')
    assert is_video('camera:0')
    assert is_video('rtsp://host/stream')
    assert not is_video('https://example.org/bird.jpg')
    assert not is_video('photos')


@pytest.mark.parametrize(
    ('content', 'message'),
    [(None, 'does not exist'), (b'no video', 'cannot be opened as a video')],
)
def test_files_that_are_no_videos(content, message, tmp_path):
    path = tmp_path / 'clip.mp4'
    if content:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        Video(path)


def test_a_cut_video_is_read_to_its_end_and_reported(tmp_path):
    path = tmp_path / 'cut.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), RATE, (96, 64))
    for i in range(30):
        writer.write(np.random.default_rng(i).integers(0, 255, (64, 96, 3), np.uint8))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    opened = Video(path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        count = len(list(opened))
    assert 5 < count < 30
    if opened.num_frames != count:  # versions of OpenCV differ in what they read from the header
        assert f'ends after {count} of {opened.num_frames} frames' in str(caught[0].message)


def test_patterns_stand_for_files(classifier, few_digits):
    pattern = f'{few_digits}/val/[37]/*.png'
    expected = sorted((few_digits / 'val').glob('[37]/*.png'))
    assert len(inference_model(classifier, [pattern])) == len(expected) == 4
    with pytest.raises(UserError, match='There is no image'):
        inference_model(classifier, [f'{few_digits}/none/*.png'])
