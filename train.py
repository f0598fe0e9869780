"""Train a captioner: `python train.py KEY=VALUE …`, the same as `mmattn train`."""

from mmattn.cli.train import main

if __name__ == "__main__":
    main()
