"""Upload a trained model to the Hugging Face Hub, with a model card written from its run.

Examples:
    python tools/push_to_hub.py birds.py work_dirs/birds/best.pth me/birds --license mit
    python tools/push_to_hub.py CONFIG CHECKPOINT me/birds --dry-run work_dirs/hub
    python tools/infer.py hf://me/birds photos/     # uses it

Uploads need a token with write access: run `hf auth login`, or set HF_TOKEN. --dry-run writes
model.safetensors, config.json and README.md to a folder and uploads nothing: read the card first.
"""

from edgenext_mm.cli import make_parser, reports_errors


@reports_errors
def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument('config', help='config file, or name of a shipped config')
    parser.add_argument('checkpoint', help='path or URL of the weights')
    parser.add_argument('repo_id', metavar='OWNER/NAME', help='repository; created if it is new')
    parser.add_argument('--license', help='licence of the weights, such as apache-2.0 or mit')
    parser.add_argument('--private', action='store_true', help='a new repository is private')
    parser.add_argument('--dry-run', metavar='DIR', help='only write the files, to a new folder')
    args = parser.parse_args()

    from edgenext_mm.apis.hub import push_to_hub  # takes seconds

    print(
        push_to_hub(
            args.config, args.checkpoint, args.repo_id, args.license, args.private, args.dry_run
        )
    )


if __name__ == '__main__':
    main()
