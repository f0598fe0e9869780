"""`mmattn`: the console script. Knows its commands without importing any of them."""

import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from mmattn.cli.plain_command import mistakes_in_one_line
from mmattn.errors import ConfigError

# Where each command's `main` is: imported when it is asked for.
COMMANDS = {
    "train": "mmattn.cli.train",
    "verify-resume": "mmattn.cli.verify_resume",
    "caption": "mmattn.cli.caption",
    "classify": "mmattn.cli.classify",
    "retrieve": "mmattn.cli.retrieve",
    "score": "mmattn.cli.score",
    "data": "mmattn.cli.data",
    "pack": "mmattn.cli.pack",
    "import": "mmattn.cli.import_model",
    "export": "mmattn.cli.export_model",
    "average": "mmattn.cli.average",
    "view": "mmattn.cli.view",
    "attention-report": "mmattn.cli.attention_report",
    "doctor": "mmattn.cli.doctor.command",
}

HELP = """mmattn: train models that see and read, and look at what they attend to

  mmattn train [KEY=VALUE ...]     train, test, and draw attention maps (the same as train.py)
  mmattn train --help              every configuration group and key
  mmattn verify-resume [KEY=VALUE ...]
                                   is a resumed run of this configuration the same, bit for bit?
  mmattn caption IMAGES --model RUN
                                   a caption for every image, with --attention FOLDER its maps
  mmattn classify IMAGES --text "is it a dog?" --model RUN
                                   the classes of every image, text, or pair of both
  mmattn classify IMAGES --labels "cat,dog" --model RUN
                                   which of these labels fits every image, by a joint model
  mmattn retrieve "a dog on a beach" IMAGES --model RUN
                                   the images that fit a text best, by a joint model
  mmattn score --references FILE --predictions FILE
                                   caption metrics equal to coco-caption's, with intervals, and
                                   with --against FILE the differences of two models
  mmattn data check [KEY=VALUE ...]
                                   every problem of a data set at once
  mmattn pack [KEY=VALUE ...] --out FOLDER
                                   captioned images as tar shards with an index
  mmattn import SOURCE DEST        a captioner of Hugging Face or open_clip, or a run of ours, as a
                                   model folder
  mmattn export MODEL DEST --to huggingface|onnx
  mmattn average RUN --last 5 --out MODEL
                                   the mean of the weights of several checkpoints
  mmattn view RUN                  what a run attended to, or why it decided, as pages
  mmattn attention-report --model RUN
                                   do the maps fall on what the words name? Repeat --model for
                                   intervals over seeds
  mmattn doctor                    what this machine has for a run, and what to mend
  mmattn --version

examples
  mmattn train                                        the built-in captioner, on CPU, minutes
  mmattn train model.text.depth=4 optimizer.lr=1e-3   any key of the configuration
  mmattn train data=flickr8k data.root=/path logger=wandb
  mmattn train -m model.text.depth=2,4 seed=1,2       a sweep
  mmattn train ckpt_path=auto                         go on where the last run stopped
  mmattn caption photos/ --model RUN --beams 4 --out captions.jsonl --attention maps/

exit codes: 0 done, 1 a failure of the program, 2 a mistake in the input (one line says which,
and with MMATTN_TRACEBACK=1 also where it was found), 130 stopped by Ctrl-C, and train 143
by SIGTERM and 138 by SIGUSR1, after saving where it was; caption, classify, retrieve and score
have more, see their --help; doctor ends with 1 where it finds a problem
"""


def main() -> None:
    """Run the command that the first argument names."""
    with mistakes_in_one_line():
        run(sys.argv[1:])


def run(arguments: list[str]) -> None:
    """Run a command, or say which there are. Raises ConfigError for one that there is not."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP)
    elif arguments[0] in ("-V", "--version"):
        print(f"mmattn {installed()}")
    elif arguments[0] in COMMANDS:
        command = import_module(COMMANDS[arguments[0]])
        sys.argv = [f"{sys.argv[0]} {arguments[0]}", *arguments[1:]]
        command.main()
    else:
        raise ConfigError(f"no command {arguments[0]!r}{hint(arguments[0])} (see mmattn --help)")


def hint(typed: str) -> str:
    """Return which command may be meant: one with the same word in it, or of almost its letters."""
    from difflib import get_close_matches

    near = [name for name in COMMANDS if typed in name.split("-")]
    near += get_close_matches(typed, [*COMMANDS, "--help", "--version"], 1, 0.5)
    return f"; did you mean {near[0]}?" if near else ""


def installed() -> str:
    """Return the package's version. Raises ConfigError where it was not installed."""
    try:
        return version("mmattn")
    except PackageNotFoundError:
        line = "mmattn is not installed, so it has no version: pip install -e ."
        raise ConfigError(line) from None
