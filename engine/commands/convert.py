"""`cvnets convert`."""

from __future__ import annotations

from pathlib import Path

from config.errors import UserError
from engine.commands.arguments import Arguments

SOURCES = "cvnets-v0.1, cvnets-main, mobilevitv3, timm, hf or torchvision"


def run(words: list[str]) -> int:
    """Write weights under the names of another library; exit code 0."""
    parser = Arguments(
        "cvnets convert",
        description="write weights as another library names them, .pt or .safetensors",
    )
    parser.add_argument("weights", help="a file, or a named weight")
    parser.add_argument("out", type=Path, help="the file to write: .pt, .pth or .safetensors")
    parser.add_argument("--to", default="cvnets-main", help=f"{SOURCES}; default cvnets-main")
    parser.add_argument(
        "--model", help="the network, e.g. mobilevit_small; default: found by shapes"
    )
    parser.add_argument("--weights-source", default="auto", help=f"{SOURCES}; default auto")
    parser.add_argument("--ema", action="store_true", help="the averaged weights of a checkpoint")
    arguments = parser.parse_args(words)
    if arguments.out.suffix not in (".pt", ".pth", ".safetensors"):
        raise UserError(f"{arguments.out}: unknown ending; give .pt, .pth or .safetensors")
    if arguments.out.exists():
        raise UserError(f"{arguments.out}: exists already; choose another name or remove it")
    import torch

    from cvnets.weights.convert import convert
    from cvnets.weights.fit import Network
    from cvnets.weights.load import open_weights
    from engine.checkpoint import write_weights
    from engine.pretrained import network_of

    file, named = open_weights(arguments.weights, ema=arguments.ema)
    with torch.device("meta"):
        name, model = network_of(file, arguments.model)
    network = Network.of(model)
    state, metadata = convert(
        file, network, arguments.to, source=arguments.weights_source, named=named
    )
    write_weights(arguments.out, state, metadata)
    order = metadata["preprocessing"]["channel_order"]
    print(
        f"{arguments.out}: {name}, {len(state)} entries as {arguments.to} names them, "
        f"for {order} images"
    )
    return 0
