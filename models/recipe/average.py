"""The mean of checkpoints of one ancestry, weight by weight, from some layer on; what lies before is the first one's. Layer 0 are
the embeddings. Another one may be the encoder itself: heads, which it has none of, and token types, of which it has fewer, stay
the first one's.

  python average.py --model DIR --other DIR [--other DIR …] --after 6 --share 0.5 --out DIR
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
    for name in ("model", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--other", type=Path, required=True, action="append")
    parser.add_argument("--after", type=int, default=0, help="the last layer that stays the first model's; -1 for none")
    parser.add_argument("--share", type=float, default=0.5, help="weight of the first model after that; the others share the rest")
    args = parser.parse_args()
    shutil.copytree(args.model, args.out, dirs_exist_ok=True)
    rest = (1 - args.share) / len(args.other)
    for file in ("model.safetensors", "matryoshka.safetensors"):
        lacking = [str(each) for each in args.other if not (each / file).exists()]
        if lacking:
            print(f"{file} stays that of {args.model}: there is none in {', '.join(lacking)}")
            continue
        one, others = load_file(args.model / file), [load_file(each / file) for each in args.other]
        mixed = dict(one)
        for name, weight in one.items():
            fewer_types = "token_type_embeddings" in name and any(len(other[name]) < len(weight) for other in others)
            if layer_of(name) > args.after and not fewer_types:
                mean = args.share * weight.astype(np.float32) + sum(rest * other[name].astype(np.float32) for other in others)
                mixed[name] = mean.astype(weight.dtype)
        save_file(mixed, args.out / file)
    settings = json.loads((args.out / "matryoshka.json").read_text())
    settings["provenance"]["averaged"] = f"from layer {args.after + 1} on, {args.share:g} of its weights and {rest:g} of {', '.join(map(str, args.other))}"
    (args.out / "matryoshka.json").write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n")


main()
