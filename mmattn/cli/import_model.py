"""`mmattn import SOURCE DEST`: another library's captioner, or a run of ours, as a model folder.

SOURCE is a local folder in its library's own layout: Hugging Face's VisionEncoderDecoderModel
(ViT or DeiT with GPT-2) and BlipForConditionalGeneration, or open_clip's CoCa; or a run directory
of mmattn or a checkpoint in one. Weights are read from safetensors; a .bin or .pt file is read
without running what it holds, or refused.
"""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

from mmattn.cli.plain_command import check_folder, mistakes_in_one_line


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
        "--dtype", choices=["float32", "bfloat16", "float16"], help="of the weights (float32)"
    )
    parser.add_argument(
        "--allow-target", action="append", default=[], help="a package of your own in a run"
    )
    arguments = parser.parse_args()
    with mistakes_in_one_line():
        check_folder(arguments.dest.parent, "DEST")
        from mmattn.model_folder.format import write_folder
        from mmattn.pipeline.load import DTYPES

        bundle, settings = read(arguments.source.expanduser(), arguments.allow_target)
        dtype = None if arguments.dtype is None else DTYPES[arguments.dtype]
        write_folder(bundle, arguments.dest, dtype=dtype, **settings)
        count = sum(p.numel() for p in bundle.model.parameters())
        print(f"{arguments.dest}: {bundle.source}, {count / 1e6:.1f} M parameters")


def read(source: Path, allowed: list[str]):
    """Return what the source holds, and what else its folder is to say."""
    from mmattn.cli.model_of_run import bundle_of_run, results_of_run
    from mmattn.interop.foreign_captioner import read_captioner

    if source.is_file() or (source / "config.yaml").is_file():
        return bundle_of_run(source, allowed), {"results": results_of_run(source)}
    return read_captioner(source), {}
