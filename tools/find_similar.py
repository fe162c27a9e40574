"""Find the images of a gallery that are most similar to others, by the features of a classifier.

Examples:
    python tools/find_similar.py edgenext-small_3rdparty_in1k photos/ --query bird.jpg
    python tools/find_similar.py CONFIG photos/ --checkpoint best.pth --query new/ --count 3 --json

The similarity is the cosine of the angle between the feature vectors, 1 for equal ones. The classes
of the model do not matter: it may never have seen those of the images.
"""

import json
import sys
from contextlib import redirect_stdout

from edgenext_mm.cli import make_parser, reports_errors


@reports_errors
def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument('model', help='config file, or name of a shipped config or zoo model')
    parser.add_argument('gallery', help='folder, file or pattern of the images to search in')
    parser.add_argument(
        '--query', nargs='+', required=True, help='images, folders or patterns to search for'
    )
    parser.add_argument(
        '--checkpoint',
        help="path, URL or name of the weights (default: best or latest in the config's folder)",
    )
    parser.add_argument(
        '--count', type=int, default=5, help='similar images per query (default: %(default)s)'
    )
    parser.add_argument('--json', action='store_true', help='print JSON')
    parser.add_argument('--device', help='where to run, e.g. cpu (default: a GPU if any)')
    parser.add_argument(
        '--batch-size', type=int, default=32, help='images per batch (default: %(default)s)'
    )
    args = parser.parse_args()

    # After the arguments: these take seconds.
    from edgenext_mm.apis.model import load_model
    from edgenext_mm.apis.retrieval import nearest_images
    from edgenext_mm.runtime.sources import list_images

    queries = list_images(args.query)
    with redirect_stdout(sys.stderr):  # stdout is for results
        model = load_model(args.model, args.checkpoint, args.device)
        found = nearest_images(model, queries, args.gallery, args.count, args.batch_size)
    if args.json:
        results = [
            dict(
                image=str(query),
                similar=[dict(image=str(n.image), similarity=n.similarity) for n in neighbours],
            )
            for query, neighbours in zip(queries, found, strict=True)
        ]
        print(json.dumps(results, indent=2))
        return
    for query, neighbours in zip(queries, found, strict=True):
        print(query)
        for neighbour in neighbours:
            print(f'  {neighbour.similarity:.4f}  {neighbour.image}')


if __name__ == '__main__':
    main()
