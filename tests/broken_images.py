"""Files that are no good images, or images of rare kinds, and what is to be said of each."""

import io
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image


class Case(NamedTuple):
    """A file.

    Args:
        content: Its bytes.
        kind: What is wrong with it, of edgenext_mm.datasets.checks.findings.KINDS; None: nothing.
        pixels: (H, W, 3) uint8 RGB that loading is to give; None: it is not compared.
        tolerance: By which single pixels may differ.
    """

    content: bytes
    kind: str | None
    pixels: np.ndarray | None = None
    tolerance: int = 0


def picture(height=48, width=64, seed=0):
    """A smooth picture; compressed formats keep it."""
    coarse = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def encode(image, form, **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def cut(content, fraction):
    return content[: int(len(content) * fraction)]


def zero_tail(content, fraction):
    """What an interrupted download leaves where the file had its full size from the start."""
    return cut(content, fraction).ljust(len(content), b'\0')


def scramble(content):
    """Noise in the middle."""
    noise = np.random.default_rng(1).integers(0, 255, 100, dtype=np.uint8).tobytes()
    middle = len(content) // 2
    return content[:middle] + noise + content[middle + len(noise) :]


def with_thumbnail(content):
    """A JPEG with a whole JPEG in its header, as cameras write them."""
    thumbnail = encode(picture(12, 16), 'JPEG')
    segment = b'Exif\0\0' + thumbnail
    return content[:2] + b'\xff\xe1' + (len(segment) + 2).to_bytes(2, 'big') + segment + content[2:]


def broken():
    """Files that training must not use, by name."""
    cases = {}
    for i, fraction in enumerate((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99)):
        rgb = picture(seed=i)
        jpeg, png = encode(rgb, 'JPEG'), encode(rgb, 'PNG')
        progressive = encode(rgb, 'JPEG', progressive=True)
        cases[f'cut-jpeg-{i}'] = cut(jpeg, fraction), 'truncated'
        cases[f'cut-progressive-{i}'] = cut(progressive, fraction), 'truncated'
        cases[f'cut-thumbnail-{i}'] = cut(with_thumbnail(jpeg), max(fraction, 0.6)), 'truncated'
        cases[f'cut-png-{i}'] = cut(png, fraction), 'truncated'
        cases[f'zero-tail-jpeg-{i}'] = zero_tail(jpeg, fraction), 'truncated'
        cases[f'zero-tail-png-{i}'] = zero_tail(png, fraction), 'truncated'
    for i, form in enumerate(('GIF', 'WEBP', 'BMP', 'TIFF', 'PPM')):
        whole = encode(picture(seed=10 + i), form)
        cases[f'cut-{form}'] = cut(whole, 0.6), 'unreadable'
        cases[f'short-{form}'] = whole[:-5], 'unreadable'
    for i in range(3):
        cases[f'empty-{i}'] = b'', 'empty_file'
        cases[f'html-{i}'] = f'<!DOCTYPE html><html>40{i} Not Found</html>'.encode(), 'unreadable'
        cases[f'damaged-png-{i}'] = scramble(encode(picture(seed=20 + i), 'PNG')), 'unreadable'
    cases['json'] = b'{"error": "quota exceeded"}', 'unreadable'
    cases['zip'] = b'PK\x03\x04' + bytes(200), 'unreadable'
    cases['zeros'] = bytes(1000), 'unreadable'
    cases['noise'] = np.random.default_rng(2).bytes(1000), 'unreadable'
    cases['float-tiff'] = encode(Image.fromarray(np.ones((9, 9), np.float32)), 'TIFF'), 'unreadable'
    cases['wide'] = encode(picture(1, 20000), 'PNG'), 'elongated'
    cases['high'] = encode(picture(20000, 1), 'JPEG'), 'elongated'
    return {name: Case(*case) for name, case in cases.items()}


def damaged():
    """JPEG files with noise in the middle, which decoders take."""
    contents = [scramble(encode(picture(seed=30 + i), 'JPEG', quality=95)) for i in range(3)]
    return {f'damaged-jpeg-{i}': Case(c, 'corrupt') for i, c in enumerate(contents)}


def rare():
    """Images that training uses, of kinds that decoders differ in."""
    rgb = picture(seed=40)
    image = Image.fromarray(rgb)
    grey = np.asarray(image.convert('L'))
    as_rgb = np.repeat(grey[..., None], 3, axis=2)
    cmyk = encode(image.convert('CMYK'), 'JPEG', quality=95)
    palette = image.quantize(32)
    half_clear = np.dstack([rgb, np.full(rgb.shape[:2], 128, np.uint8)])
    frames = dict(save_all=True, append_images=[Image.fromarray(255 - rgb)])
    cases = {
        'grey': Case(encode(grey, 'PNG'), None, as_rgb),
        'two-colours': Case(
            encode(image.convert('1'), 'PNG'), None, np.asarray(image.convert('1').convert('RGB'))
        ),
        'palette': Case(encode(palette, 'PNG'), None, np.asarray(palette.convert('RGB'))),
        'opaque-alpha': Case(encode(image.convert('RGBA'), 'PNG'), None, rgb),
        # libpng warns of it, to no purpose.
        'odd-profile': Case(encode(image, 'PNG', icc_profile=b'no profile' * 20), None, rgb),
        'bmp': Case(encode(rgb, 'BMP'), None, rgb),
        'tiff': Case(encode(rgb, 'TIFF'), None, rgb),
        'ppm': Case(encode(rgb, 'PPM'), None, rgb),
        'webp': Case(encode(rgb, 'WEBP', lossless=True), None, rgb),
        'progressive': Case(encode(rgb, 'JPEG', progressive=True, quality=95), None, rgb, 12),
        'thumbnail': Case(with_thumbnail(encode(rgb, 'JPEG', quality=95)), None, rgb, 12),
        'trailing-bytes': Case(encode(picture(seed=41), 'JPEG', quality=95) + b'more', None),
        'cmyk': Case(cmyk, 'cmyk', np.asarray(Image.open(io.BytesIO(cmyk)).convert('RGB')), 12),
        'sixteen-bit-grey': Case(
            encode(Image.fromarray(grey.astype(np.uint16) * 256 + 7), 'PNG'), 'sixteen_bit', as_rgb
        ),
        'sixteen-bit-colour': Case(
            cv2.imencode('.png', rgb[..., ::-1].astype(np.uint16) * 256 + 7)[1].tobytes(),
            'sixteen_bit', rgb,
        ),
        'alpha': Case(encode(half_clear, 'PNG'), 'alpha', rgb),
        'animated-png': Case(encode(image, 'PNG', **frames), 'animated', rgb),
        'animated-webp': Case(encode(image, 'WEBP', lossless=True, **frames), 'animated', rgb),
        'animated-tiff': Case(encode(image, 'TIFF', **frames), 'animated', rgb),
        'animated-gif': Case(encode(palette, 'GIF', **frames), 'animated'),
        'one-pixel': Case(encode(rgb[:1, :1], 'PNG'), 'tiny', rgb[:1, :1]),
        'seven-pixels': Case(encode(rgb[:7], 'PNG'), 'tiny', rgb[:7]),
    }  # fmt: skip
    turned = {2: rgb[:, ::-1], 3: rgb[::-1, ::-1], 6: np.rot90(rgb, -1), 8: np.rot90(rgb)}
    for orientation, upright in turned.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        content = encode(rgb, 'PNG', exif=exif)
        cases[f'turned-{orientation}'] = Case(content, 'exif_orientation', upright)
    return cases
