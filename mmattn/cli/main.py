"""`mmattn`: the console script. Knows its commands without importing any of them."""

import sys
from importlib.metadata import version

HELP = """mmattn: train captioners that see and read, and look at what they attend to

  mmattn train [KEY=VALUE ...]     train, test, and draw attention maps (the same as train.py)
  mmattn train --help              every configuration group and key
  mmattn --version

examples
  mmattn train                                        the built-in captioner, on CPU, minutes
  mmattn train model.text.depth=4 optimizer.lr=1e-3   any key of the configuration
  mmattn train data=flickr8k data.root=/path logger=wandb
  mmattn train -m model.text.depth=2,4 seed=1,2       a sweep
  mmattn train ckpt_path=auto                         go on where the last run stopped

exit codes: 0 done, 1 a failure of the program, 2 a mistake in the input (one line says which,
and with MMATTN_TRACEBACK=1 also where it was found)
"""


def main() -> None:
    """Run the command that the first argument names."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP)
    elif arguments[0] in ("-V", "--version"):
        print(f"mmattn {version('mmattn')}")
    elif arguments[0] == "train":
        from mmattn.cli.train import main as train

        sys.argv = [f"{sys.argv[0]} train", *arguments[1:]]
        train()
    else:
        from difflib import get_close_matches

        near = get_close_matches(arguments[0], ["train", "--help", "--version"], 1, 0.5)
        hint = f"; did you mean {near[0]}?" if near else ""
        print(f"error: no command {arguments[0]!r}{hint} (see mmattn --help)", file=sys.stderr)
        raise SystemExit(2)
