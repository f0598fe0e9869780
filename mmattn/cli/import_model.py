"""`mmattn import SOURCE DEST`: another library's captioner, or a run of ours, as a model folder.

SOURCE is a local folder in its library's own layout: Hugging Face's VisionEncoderDecoderModel
(ViT or DeiT with GPT-2) and BlipForConditionalGeneration, or open_clip's CoCa; or a run directory
of mmattn or a checkpoint in one; or a model folder, to store its weights in another type. Weights
are read from safetensors; a .bin or .pt file is read without running what it holds, or refused.
"""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmattn.cli.places import check_folder
from mmattn.cli.plain_command import mistakes_in_one_line

if TYPE_CHECKING:
    from mmattn.bundle import Bundle, ClassifierBundle


def main() -> None:
    """Read the source and write the folder."""
    parser = ArgumentParser(
        prog="mmattn import",
        description=__doc__,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, help="a folder, or a checkpoint of a run")
    parser.add_argument("dest", type=Path, help="the model folder to write")
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16", "float16"], help="of the weights (as they are)"
    )
    parser.add_argument(
        "--allow-target", action="append", default=[], help="a package of your own in a run"
    )
    arguments = parser.parse_args()
    with mistakes_in_one_line():
        check_folder(arguments.dest.parent, "DEST")
        from mmattn.model_folder.format import write_folder
        from mmattn.pipeline.load import known_dtype

        bundle, results = read(arguments.source.expanduser(), arguments.allow_target)
        write_folder(bundle, arguments.dest, dtype=known_dtype(arguments.dtype), results=results)
        count = sum(parameter.numel() for parameter in bundle.model.parameters())
        print(f"{arguments.dest}: {bundle.source}, {count / 1e6:.3g} M parameters")


def read(
    source: Path, allowed: Sequence[str]
) -> tuple["Bundle | ClassifierBundle", dict[str, float]]:
    """Return the model of a source, and what is known of how good it is.

    Raises:
        UserError: where it is nothing that can be read.
    """
    from mmattn.interop.foreign_captioner import read_captioner
    from mmattn.model_folder.format import read_folder
    from mmattn.model_folder.layout import MANIFEST

    if source.is_file() or (source / "config.yaml").is_file():
        # Of Lightning and Hydra: seconds that the others need not wait.
        from mmattn.cli.model_of_run import bundle_of_run, results_of_run

        return bundle_of_run(source, allowed), results_of_run(source)
    if (source / MANIFEST).is_file():
        return read_folder(source), {}
    return read_captioner(source), {}
