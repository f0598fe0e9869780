"""`mmattn export MODEL DEST --to huggingface`: a captioner in another library's layout.

huggingface writes a folder that VisionEncoderDecoderModel.from_pretrained reads; onnx writes the
encoder and one step of decoding as ONNX files, and onnxruntime compares them with the model (extra:
mmattn[onnx]).
"""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

from mmattn.cli.places import check_folder
from mmattn.cli.plain_command import mistakes_in_one_line
from mmattn.errors import ConfigError


def main() -> None:
    """Load the model and write the folder."""
    parser = ArgumentParser(
        prog="mmattn export",
        description=__doc__,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="a run directory, a model folder, or name/name on the hub")
    parser.add_argument("dest", type=Path, help="the folder to write")
    parser.add_argument("--to", required=True, choices=["huggingface", "onnx"])
    parser.add_argument(
        "--attention", action="store_true", help="onnx: a step also gives its attention weights"
    )
    arguments = parser.parse_args()
    with mistakes_in_one_line():
        if arguments.attention and arguments.to != "onnx":
            raise ConfigError("--attention is of --to onnx")
        check_folder(arguments.dest.parent, "DEST")
        from mmattn.model_folder.source import captioner_of, read_source

        bundle = captioner_of(read_source(arguments.model), arguments.model, "mmattn export")
        if arguments.to == "onnx":
            from mmattn.interop.onnx.export import export_onnx

            export_onnx(bundle, arguments.dest, attention=arguments.attention)
        else:
            from mmattn.interop.huggingface.encoder_decoder_export import write_encoder_decoder

            write_encoder_decoder(bundle, arguments.dest)
        print(arguments.dest)
