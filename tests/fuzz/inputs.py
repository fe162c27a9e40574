"""Images and other objects in place of images, as hypothesis strategies."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from PIL import Image

#: Extremes are frequent, so that they also occur together.
SIDES = st.one_of(st.integers(1, 96), st.integers(1, 4096), st.sampled_from([1, 2, 31, 33, 4096]))
SMALL_SIDES = st.one_of(st.integers(1, 96), st.integers(1, 600))
DTYPES = (
    'u1',
    'u1',
    'u1',
    '<u2',
    '>u2',
    'i1',
    'i8',
    'f2',
    '<f4',
    '>f4',
    'f8',
    'c8',
    '?',
    'O',
    'U1',
)
CHANNELS = (None, 3, 3, 3, 1, 4, 0, 2, 5)
LAYOUTS = {
    'C': np.ascontiguousarray,
    'Fortran': np.asfortranarray,
    'reversed': lambda a: a[::-1, ::-1],
    'channels reversed': lambda a: a[..., ::-1],
    'every other': lambda a: a.repeat(2, axis=1)[:, ::2],
    'transposed': lambda a: a.swapaxes(0, 1),
    'one value': lambda a: np.broadcast_to(a.ravel()[:1].reshape((1,) * a.ndim), a.shape),
    'another dimension': lambda a: a[None],
    'flat': np.ravel,
    'masked': np.ma.asarray,
    'matrix': lambda a: np.asmatrix(a) if a.ndim == 2 else a,
}


@st.composite
def arrays(draw, sides=SIDES):
    """Arrays of random bytes; floats include NaN and infinities."""
    height, width, channels = draw(sides), draw(sides), draw(st.sampled_from(CHANNELS))
    shape = (height, width) if channels is None else (height, width, channels)
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    noise = np.random.default_rng(draw(st.integers(0, 9))).bytes(1 << 16)
    if dtype.kind in 'OU?':
        values = np.frombuffer(noise, 'u1').astype(dtype)
        shape = tuple(min(side, 64) for side in shape)  # objects take eight times the memory
    else:
        values = np.frombuffer(noise, dtype)
    array = np.resize(values, shape)
    layout = draw(st.sampled_from(['C', *LAYOUTS])) if array.size else 'C'
    array = LAYOUTS[layout](array)
    if draw(st.booleans()):
        array.flags.writeable = False
    return array


MODES = {
    'PNG': ('RGB', 'L', 'LA', 'RGBA', 'P', '1', 'I;16'),
    'JPEG': ('RGB', 'L', 'CMYK', 'YCbCr'),
    'GIF': ('P', 'L', 'RGB', '1'),
    'BMP': ('RGB', 'L', 'P', '1', 'RGBA'),
    'TIFF': ('RGB', 'L', 'CMYK', 'RGBA', 'I;16', 'I', 'F', 'LAB', '1', 'YCbCr'),
    'WEBP': ('RGB', 'RGBA'),
    'PPM': ('RGB', 'L', '1', 'I'),
    'JPEG2000': ('RGB', 'L', 'RGBA', 'LA'),
    'TGA': ('RGB', 'RGBA', 'L', 'P'),
    'ICO': ('RGBA',),
    'EPS': ('RGB',),
}


ALL_MODES = tuple(dict.fromkeys(mode for modes in MODES.values() for mode in modes))


@st.composite
def pillow_images(draw, sides=SIDES, modes=ALL_MODES):
    """Pillow images of all modes that occur in files."""
    size, mode = (draw(sides), draw(sides)), draw(st.sampled_from(modes))
    if mode.startswith('I;'):
        return Image.new(mode, size, draw(st.integers(0, 65535)))
    noise = np.random.default_rng(draw(st.integers(0, 9))).integers(256, size=1 << 16, dtype='u1')
    image = Image.fromarray(np.resize(noise, size[::-1]))
    if mode == 'LAB':
        return Image.merge('LAB', [image] * 3)
    return image.convert(mode)


def sound_files(sides=SMALL_SIDES):
    """Image files as bytes."""

    def encoded(file_format):
        return pillow_images(sides, MODES[file_format]).map(
            lambda image: encode(image, file_format)
        )

    return st.sampled_from(sorted(MODES)).flatmap(encoded)


def encode(image, file_format):
    """Encodes an image as the bytes of a file."""
    buffer = io.BytesIO()
    if file_format == 'ICO':
        image = image.resize((16, 16))  # the smallest that Pillow writes
    image.save(buffer, file_format)
    return buffer.getvalue()


@st.composite
def damaged_files(draw):
    """Image files that are truncated, partly overwritten or continued after their end."""
    content = bytearray(draw(sound_files()))
    at = draw(st.integers(0, len(content)))
    match draw(st.sampled_from(['cut', 'bytes', 'garbage', 'more'])):
        case 'cut':
            del content[at:]
        case 'bytes':
            for place in draw(st.lists(st.integers(0, len(content) - 1), max_size=20)):
                content[place] = draw(st.integers(0, 255))
        case 'garbage':
            content[at:] = draw(st.binary(max_size=2000))
        case 'more':
            content += draw(st.binary(max_size=200))
    return bytes(content)


def png(width, height, data):
    """A PNG with one channel, whose header may announce more than its data contains."""
    header = struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)
    chunks = [(b'IHDR', header), (b'IDAT', data), (b'IEND', b'')]
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(d)) + k + d + struct.pack('>I', zlib.crc32(k + d)) for k, d in chunks
    )


MAGIC = (b'\x89PNG\r\n\x1a\n', b'\xff\xd8\xff\xe0', b'GIF89a', b'BM', b'II*\0', b'MM\0*',
         b'RIFF\x10\0\0\0WEBPVP8 ', b'P6 ', b'%!PS-Adobe-3.0 EPSF-3.0\n', b'8BPS', b'\0\0\1\0',
         b'\0\0\0\x0cjP  \r\n\x87\n', b'\0\0\0 ftypavif')  # fmt: skip
#: Sizes for headers.
SIZES = st.tuples(*[st.sampled_from([9_000, 14_000, 30_000, 65_535, 2**31 - 1])] * 2)
HANDMADE = st.one_of(
    st.binary(max_size=2000),
    st.sampled_from([b'', b'<!DOCTYPE html><html><body>404</body></html>', b'{}', bytes(999)]),
    st.tuples(st.sampled_from(MAGIC), st.binary(max_size=2000)).map(b''.join),
    SIZES.map(lambda size: png(*size, b'x')),
    SIZES.map(lambda size: b'P5 %d %d 255\n' % size),
    SIZES.map(lambda size: b'BM' + struct.pack('<4I2i2H6I', 99, 0, 54, 40, *size, 1, 24, *[0] * 6)),
    SIZES.map(lambda size: b'GIF89a' + struct.pack('<2H', *np.minimum(size, 65535)) + b'\0\0\0,'),
)
#: A small file that decodes to a large image.
ZEROS = png(9_000, 9_000, zlib.compress(bytes(9_001 * 9_000), 9))
FILES = st.one_of(sound_files(), damaged_files(), HANDMADE, st.just(ZEROS))

#: File names that cannot be existing folders.
NAMES = st.text(st.characters(codec='utf-8', exclude_characters='./~'), max_size=30)
#: Objects that are not images.
OTHERS = st.one_of(
    st.sampled_from(
        [None, True, 7, 0.5, float('nan'), b'', b'abc', object, object(), '', 'a' * 5000, '\udc80']
    ),
    st.sampled_from(['/dev/null', '/dev/zero', '/proc/self/mem', '~', 'a\0b', '://', 'x://y',
                     'http://127.0.0.1:9/a.png', 's3://a/b.png', 'file:///none.png']),
    NAMES, NAMES.map(Path), st.lists(st.none() | st.integers() | NAMES, max_size=3),
    st.dictionaries(NAMES, st.none(), max_size=2), st.sets(st.integers(), max_size=2),
)  # fmt: skip
