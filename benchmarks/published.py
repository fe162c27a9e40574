"""Published figures of others, to compare ours with.

Sources: the paper (arXiv 2206.10589; accuracies of MobileNets, ShuffleNet, T2T-ViT and DeiT-T from
its section 4.3), the authors' repository https://github.com/mmaaz60/EdgeNeXt, and for the DOTA row
https://github.com/Xuyihaoby/rotate_detection. Accuracies at 288x288 and 320x320 are those of timm
(https://github.com/huggingface/pytorch-image-models, results/results-imagenet.csv). Figures that
none of them gives are left empty.

The hashes and sizes of files are those that the Hugging Face Hub shows and mmpretrain has in its
file names; that of the authors' xxsmall was found in public code. The hashes of the authors' other
files, and of most of timm's, were not found in public text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

AUTHORS_FILES = 'https://github.com/mmaaz60/EdgeNeXt/releases/download/'
MMPRETRAIN_FILES = 'https://mmassets.onedl.ai/mmclassification/v0/edgenext/'
TIMM_FILES = 'https://huggingface.co/timm/'


@dataclass(frozen=True)
class HubModel:
    """A model of timm on the Hugging Face Hub.

    Args:
        name: Name of the model.
        revision: Commit of its repository, or ``'main'`` if only an abbreviation is known.
        size: Size of ``model.safetensors``.
        test_size: Side of the images in the test.
        top1: ImageNet-1K top-1 in percent in this test, without crop.
        sha256: Hash of ``model.safetensors``. Default: unknown.
    """

    name: str
    revision: str
    size: str
    test_size: int
    top1: float
    sha256: str | None = None


@dataclass(frozen=True)
class Release:
    """Published weights.

    Args:
        name: Name in the model zoo.
        file: Path in the authors' releases, after :data:`AUTHORS_FILES`, or None.
        top1: ImageNet-1K top-1 in percent at 256x256, measured by the authors, or None.
        mirror: File name of mmpretrain's conversion, after :data:`MMPRETRAIN_FILES`. Default: none.
        sha256: Hash of the authors' file. Default: unknown.
        hub: timm's conversion, or its own weights. Default: none.
    """

    name: str
    file: str | None
    top1: float | None
    mirror: str | None = None
    sha256: str | None = None
    hub: HubModel | None = None

    @property
    def sources(self) -> list[dict[str, str]]:
        """The files as in a metafile, in the order in which they are tried."""
        files: list[tuple[str, str | None, str | None]] = []
        if self.file:
            files.append((AUTHORS_FILES + self.file, self.sha256, None))
        if self.mirror:
            digest = self.mirror.removesuffix('.pth').rpartition('-')[2]
            files.append((MMPRETRAIN_FILES + self.mirror, digest, None))
        if hub := self.hub:
            url = f'{TIMM_FILES}{hub.name}/resolve/{hub.revision}/model.safetensors'
            files.append((url, hub.sha256, hub.size))
        keys = ('URL', 'SHA256', 'Size')
        return [{k: v for k, v in zip(keys, file, strict=True) if v} for file in files]


#: By the name of the config.
HUB_MODELS = {
    'xxsmall_8xb256': HubModel('edgenext_xx_small.in1k', 'main', '5.32 MB', 288, 71.88),
    'xsmall_8xb256': HubModel(
        'edgenext_x_small.in1k', 'e2c374df8dd22b28db6a66b371770e1585e79513', '9.37 MB', 288, 75.69
    ),
    'small_8xb128-usi': HubModel(
        'edgenext_small.usi_in1k', '1bd2a138441c1beef67d89b52afcaa80196523de', '22.4 MB', 320,
        81.56,
        '14d824931ca7f09e631c90347253bbc7a925ad017a02d7b8bf6e13b872d8059b',
    ),
    'base_8xb128-usi': HubModel(
        'edgenext_base.usi_in1k', '4bfbee1026e4e9ca948d682fd549297635d172eb', '74.1 MB', 320, 83.96
    ),
    'base_in21k-p-pre_8xb64-30e': HubModel(
        'edgenext_base.in21k_ft_in1k', 'main', '74.1 MB', 320, 84.05
    ),
    'small_rw_8xb256': HubModel(
        'edgenext_small_rw.sw_in1k', '0a9ca4b559dcd2174212314d161598bf1eedb194', '31.3 MB', 320,
        80.46,
    ),
}  # fmt: skip
XXSMALL_HASH = 'd8b309b2ecec97a8544422553dee9409e90022badcba23127eb946e6002ad981'
#: By the name of the config.
RELEASES = {
    f'edgenext-{config}_in1k': Release(
        f'edgenext-{size}{kind}_3rdparty_in1k',
        file,
        top1,
        f'edgenext-{size}_3rdparty{kind}_in1k_20220801-{digest}.pth' if digest else None,
        XXSMALL_HASH if config == 'xxsmall_8xb256' else None,
        HUB_MODELS.get(config),
    )
    for config, size, kind, file, top1, digest in (
        ('xxsmall_8xb256', 'xxsmall', '', 'v1.0/edgenext_xx_small.pth', 71.23, '7ca8a81d'),
        ('xsmall_8xb256', 'xsmall', '', 'v1.0/edgenext_x_small.pth', 74.96, '974f9fe7'),
        ('small_8xb256', 'small', '', 'v1.0/edgenext_small.pth', 79.41, 'd00db5f8'),
        ('base_8xb256', 'base', '', 'v1.2/edgenext_base.pth', 82.47, '9ade408b'),
        ('xxsmall_bnhs_8xb256', 'xxsmall', '_bnhs', 'v1.0/edgenext_xx_small_bn_hs.pth', 70.33, ''),
        ('xsmall_bnhs_8xb256', 'xsmall', '_bnhs', 'v1.0/edgenext_x_small_bn_hs.pth', 74.87, ''),
        ('small_bnhs_8xb256', 'small', '_bnhs', 'v1.0/edgenext_small_bn_hs.pth', 78.39, ''),
        ('small_8xb128-usi', 'small', '-usi', 'v1.1/edgenext_small_usi.pth', 81.07, 'ae6d8dd3'),
        ('base_8xb128-usi', 'base', '-usi', 'v1.2/edgenext_base_usi.pth', 83.68, '909e8939'),
        (
            'base_in21k-p-pre_8xb64-30e', 'base', '_in21k-p-pre',
            'v1.21/edgenext_base_IN21K.pth', 83.31, '',
        ),
        ('small_rw_8xb256', 'small', '_rw', None, None, ''),
    )
}  # fmt: skip

#: ImageNet-1K top-1 of the paper's variants in percent at 256x256, from the authors' releases.
IMAGENET_TOP1 = {
    config.removeprefix('edgenext-').removesuffix('_8xb256_in1k'): release.top1
    for config, release in RELEASES.items()
    if config.endswith('_8xb256_in1k') and release.top1 is not None
}


@dataclass(frozen=True)
class Row:
    """A model in a table. Published figures are strings, with their printed precision.

    Args:
        name: Name in the paper.
        model: Name for :func:`~benchmarks.models.build_named`. Default: None, a model that no
            installed library has.
        shape: (H, W) of the input that costs are counted at. Default: (256, 256).
        options: Settings that override the model's config. Default: none.
        params: Published parameters, such as ``'5.6M'``.
        madds: Published multiply-adds, such as ``'1.3G'``.
        accuracy: Published accuracy, in the table's metric.
        latency: Published latencies or throughputs, by device and unit.
    """

    name: str
    model: str | None = None
    shape: tuple[int, int] = (256, 256)
    options: Mapping[str, Any] = field(default_factory=dict)
    params: str = ''
    madds: str = ''
    accuracy: str = ''
    latency: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A table or figure of the paper.

    Args:
        title: Title.
        metric: Metric of the accuracies.
        rows: The models.
        note: Differences from the paper. Default: none.
    """

    title: str
    metric: str
    rows: tuple[Row, ...]
    note: str = ''


TOP1 = 'ImageNet-1K top-1'
#: The data set that each metric of the tables is measured on.
METRICS = {TOP1: 'ImageNet-1k', 'box AP': 'COCO', 'mIoU': 'VOC 2012', 'AP50': 'DOTA-v1.0'}
NANO, A100, A100_SPEED = 'Jetson Nano, ms', 'A100, us per image', 'A100, images/s'


def _in1k(name: str) -> str:
    return f'edgenext-{name}_in1k'


XXS: dict[str, Any] = dict(
    model=_in1k('xxsmall_8xb256'), params='1.3M', madds='261M', accuracy='71.2'
)
XS: dict[str, Any] = dict(
    model=_in1k('xsmall_8xb256'), params='2.3M', madds='538M', accuracy='75.0'
)
S: dict[str, Any] = dict(model=_in1k('small_8xb256'), params='5.6M', madds='1.3G', accuracy='79.4')
MOBILEVIT_XXS: dict[str, Any] = dict(
    model='timm:mobilevit_xxs', params='1.3M', madds='364M', accuracy='69.0'
)
MOBILEVIT_XS: dict[str, Any] = dict(
    model='timm:mobilevit_xs', params='2.3M', madds='886M', accuracy='74.8'
)
MOBILEVIT_S: dict[str, Any] = dict(
    model='timm:mobilevit_s', params='5.6M', madds='2.01G', accuracy='78.4'
)
SMALL = Row('EdgeNeXt-S', **S)


def format_count(value: int | None) -> str:
    """Formats a count as the paper does, in millions below 1G. None gives an empty string."""
    if value is None:
        return ''
    if value >= 1e9:
        return f'{value / 1e9:.2f}G'
    return f'{value / 1e6:.2f}M' if value < 1e8 else f'{value / 1e6:.0f}M'


def deviation(published: str, ours: int) -> float:
    """Relative deviation of our count from a published one; 0 if both print alike.

    Args:
        published: A count such as ``'5.6M'`` or ``'1.3G'``.
        ours: Our count.
    """
    text, unit = published[:-1], {'M': 1e6, 'G': 1e9}[published[-1]]
    decimals = len(text.partition('.')[2])
    return 0.0 if f'{ours / unit:.{decimals}f}' == text else ours / (float(text) * unit) - 1


def _peer_backbone(
    name: str, channels: tuple[int, int], stride: int | None = None
) -> dict[str, Any]:
    """Options that put a backbone of timm into a config, with strides 16 and 32 or a given one."""
    backbone: dict[str, Any] = dict(
        _delete_=True,
        type='mmpretrain.TIMMBackbone',
        model_name=name,
        features_only=True,
        out_indices=(3, 4) if stride is None else (4,),
    )
    if stride is not None:
        return {
            'model.backbone': {**backbone, 'output_stride': stride},
            'model.decode_head.in_channels': channels[1],
        }
    return {'model.backbone': backbone, 'model.neck.in_channels': channels}


def _ablation(name: str, kind: str, accuracy: str = '') -> Row:
    return Row(name, f'edgenext-small_{kind}_8xb256_in1k', accuracy=accuracy)


SSDLITE: dict[str, Any] = dict(model='ssdlite_edgenext-small_4xb32-200e_coco', shape=(320, 320))
DEEPLAB: dict[str, Any] = dict(
    model='deeplabv3_edgenext-small_4xb16-50e_voc12aug-coco-512x512', shape=(512, 512)
)

#: By number; ``F3`` is Figure 3. Figure 1 is drawn from Tables 2 and 3.
TABLES: dict[str, Table] = {
    '1': Table(
        'The architectures', TOP1, (Row('EdgeNeXt-XXS', **XXS), Row('EdgeNeXt-XS', **XS), SMALL)
    ),
    '2': Table(
        'ImageNet-1K classification',
        TOP1,
        (
            Row('ShuffleNetV2', accuracy='74.5'),
            Row('MobileNetV2 (1.4)', 'timm:mobilenetv2_140', (224, 224), accuracy='74.7'),
            Row('MobileNetV3-L', 'timm:mobilenetv3_large_100', (224, 224), accuracy='75.2'),
            Row('T2T-ViT', accuracy='76.5'),
            Row('DeiT-T', 'timm:deit_tiny_patch16_224', (224, 224), accuracy='72.2'),
            Row('PiT-Ti', 'timm:pit_ti_224', (224, 224)),
            Row('CoaT-Lite-T', 'timm:coat_lite_tiny', (224, 224)),
            Row('MobileViT-S', **MOBILEVIT_S),
            Row(
                'EdgeNeXt-S, 224x224',
                'edgenext-small_8xb256_in1k-224px',
                (224, 224),
                params='5.6M',
                madds='965M',
                accuracy='78.8',
            ),
            SMALL,
            Row(
                'EdgeNeXt-S, distilled by USI',
                'edgenext-small_8xb128-usi_in1k',
                params='5.6M',
                madds='1.3G',
                accuracy='81.1',
            ),
        ),
    ),
    '3': Table(
        'EdgeNeXt and MobileViT',
        TOP1,
        (
            Row('MobileViT-XXS', **MOBILEVIT_XXS, latency={NANO: '21.0', A100: '216'}),
            Row('MobileViT-XS', **MOBILEVIT_XS, latency={NANO: '35.1', A100: '423'}),
            Row('MobileViT-S', **MOBILEVIT_S, latency={NANO: '53.0', A100: '559'}),
            Row('EdgeNeXt-XXS', **XXS, latency={NANO: '19.3', A100: '142'}),
            Row('EdgeNeXt-XS', **XS, latency={NANO: '31.6', A100: '227'}),
            Row('EdgeNeXt-S', **S, latency={NANO: '48.8', A100: '332'}),
        ),
    ),
    '4': Table(
        'EdgeNeXt-B and ImageNet-21K-P',
        TOP1,
        (
            Row('ConvNeXt-T', 'timm:convnext_tiny', (224, 224)),
            Row('MobileViT-V2 (2.0)', 'timm:mobilevitv2_200'),
            Row('EdgeNeXt-B', _in1k('base_8xb256'), params='18.5M', madds='3.8G', accuracy='82.5'),
            Row(
                'EdgeNeXt-B, distilled by USI',
                'edgenext-base_8xb128-usi_in1k',
                params='18.5M',
                madds='3.8G',
                accuracy='83.7',
            ),
            Row(
                'EdgeNeXt-B, pre-trained on ImageNet-21K-P',
                'edgenext-base_in21k-p-pre_8xb64-30e_in1k',
                params='18.5M',
                madds='3.8G',
                accuracy='83.3',
            ),
        ),
    ),
    '5': Table(
        'SSDLite on COCO',
        'box AP',
        (
            Row('MobileNetV2', **SSDLITE, options=_peer_backbone('mobilenetv2_100', (96, 320))),
            Row(
                'MobileNetV3-L',
                **SSDLITE,
                options=_peer_backbone('mobilenetv3_large_100', (112, 960)),
            ),
            Row(
                'MobileViT-S',
                **SSDLITE,
                options=_peer_backbone('mobilevit_s', (128, 640)),
                params='5.7M',
                madds='3.4G',
                accuracy='27.7',
            ),
            Row('EdgeNeXt-S', **SSDLITE, params='6.2M', madds='2.1G', accuracy='27.9'),
        ),
        "All backbones are used in this project's SSDLite, whose extra levels follow mmdet.",
    ),
    '6': Table(
        'DeepLabv3 on VOC 2012',
        'mIoU',
        (
            Row(
                'MobileNetV2',
                **DEEPLAB,
                options=_peer_backbone('mobilenetv2_100', (96, 320), stride=16),
            ),
            Row(
                'MobileViT-S',
                **DEEPLAB,
                options=_peer_backbone('mobilevit_s', (128, 640), stride=16),
                params='6.4M',
                madds='13.7G',
                accuracy='79.1',
            ),
            Row('EdgeNeXt-S', **DEEPLAB, params='6.5M', madds='8.7G', accuracy='80.2'),
        ),
        "The width of the paper's decoder is unpublished; ours has 96 channels.",
    ),
    '7': Table(
        'Ablation of the parts',
        TOP1,
        (
            SMALL,
            _ablation('Conv. encoders for SDTA encoders', 'sdta-0000', accuracy='78.3'),
            _ablation('... and kernels of 7', 'sdta-0000-kernel-7', accuracy='77.9'),
            _ablation('no adaptive branching', 'no-adaptive-branching'),
            _ablation('no positional encoding', 'no-pos-encoding'),
        ),
        'The accuracies are 79.4 minus the differences given in the text.',
    ),
    '8': Table(
        'Hybrid designs',
        TOP1,
        (
            _ablation('Conv. 3 3 9 0, SDTA 0 0 0 3', 'sdta-0003'),
            _ablation('Conv. 3 3 0 0, SDTA 0 0 9 3', 'sdta-0093'),
            Row('Conv. 3 2 8 2, SDTA 0 1 1 1', **S),
        ),
    ),
    '9': Table(
        'SDTA encoders by stage',
        TOP1,
        (
            _ablation('SDTA 0 0 0 0', 'sdta-0000', accuracy='78.3'),
            _ablation('SDTA 0 0 0 1', 'sdta-0001'),
            _ablation('SDTA 0 0 1 1', 'sdta-0011'),
            Row('SDTA 0 1 1 1', **S),
            _ablation('SDTA 1 1 1 1', 'sdta-1111'),
        ),
    ),
    '10': Table(
        'SDTA encoders first or last',
        TOP1,
        (_ablation('first in each stage', 'sdta-first'), Row('last in each stage', **S)),
    ),
    'F3': Table(
        'Figure 3: norm and activation',
        TOP1,
        tuple(
            Row(
                f'EdgeNeXt-{size}, {family}',
                _in1k(f'{arch}_8xb256'),
                accuracy=f'{IMAGENET_TOP1[arch]:.2f}',
                latency={A100_SPEED: speed},
            )
            for size, family, arch, speed in (
                ('XXS', 'LN+GELU', 'xxsmall', '7042'),
                ('XS', 'LN+GELU', 'xsmall', '4405'),
                ('S', 'LN+GELU', 'small', '3010'),
                ('XXS', 'BN+Hard-Swish', 'xxsmall_bnhs', '10360'),
                ('XS', 'BN+Hard-Swish', 'xsmall_bnhs', '6060'),
                ('S', 'BN+Hard-Swish', 'small_bnhs', '3808'),
            )
        ),
    ),
    'DOTA': Table(
        'Rotated GFL on DOTA-v1.0',
        'AP50',
        (
            Row(
                'rotated GFL, EdgeNeXt-S',
                'rotated-gfl-le135_edgenext-small_fpn_1xb2-1x_dota',
                (1024, 1024),
                accuracy='70.75',
            ),
        ),
    ),
}

#: Published figures of detectors and segmentors, by the name of the config.
DENSE = {
    row.model: ', '.join(filter(None, (f'{row.accuracy} {table.metric}', row.params, row.madds)))
    for table in (TABLES['5'], TABLES['6'], TABLES['DOTA'])
    for row in table.rows
    if not row.options
}
