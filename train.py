"""Train a captioner: `python train.py`. The same as `mmattn train`; see `python train.py --help`."""

from mmattn.cli.train import main

if __name__ == "__main__":
    main()
