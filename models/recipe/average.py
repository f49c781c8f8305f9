"""The mean of two checkpoints of one run's ancestry, weight by weight, from some layer on; what lies before is the first one's.
The other may be the encoder itself: heads, which it has none of, stay the first one's.

  python average.py --model DIR --other DIR --after 6 --share 0.5 --out DIR
"""
import argparse, json, re, shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file


def layer_of(name):
    """1-based; 0 for embeddings. An exit's head goes with its layer."""
    block, exit = re.match(r"encoder\.layer\.(\d+)\.", name), re.match(r"exit\.(\d+)\.", name)
    return int(block[1]) + 1 if block else int(exit[1]) if exit else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "other", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--after", type=int, default=0, help="layers that stay the first model's")
    parser.add_argument("--share", type=float, default=0.5, help="weight of the first model after that")
    args = parser.parse_args()
    shutil.copytree(args.model, args.out, dirs_exist_ok=True)
    heads = args.other / "matryoshka.safetensors"
    for file in ["model.safetensors", *([heads.name] if heads.exists() else [])]:
        one, other = load_file(args.model / file), load_file(args.other / file)
        mixed = dict(one)
        for name, weight in one.items():
            if layer_of(name) > args.after:
                mean = args.share * weight.astype(np.float32) + (1 - args.share) * other[name].astype(np.float32)
                mixed[name] = mean.astype(weight.dtype)
        save_file(mixed, args.out / file)
    settings = json.loads((args.out / "matryoshka.json").read_text())
    settings["provenance"]["averaged"] = f"from layer {args.after + 1} on, {args.share} of its weights and {1 - args.share:g} of {args.other.name}'s"
    (args.out / "matryoshka.json").write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n")


main()
