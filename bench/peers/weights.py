"""A layer-wise BERT checkpoint as NumPy arrays: the encoder and the score head of its last layer."""
import json
import os

import numpy as np
from safetensors.numpy import load_file


def load(checkpoint):
    """Returns (config, tensors by name in float32, head weight (1, hidden), head bias (1,))."""
    with open(os.path.join(checkpoint, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    tensors = load_file(os.path.join(checkpoint, "model.safetensors"))
    heads = load_file(os.path.join(checkpoint, "matryoshka.safetensors"))
    last = config["num_hidden_layers"]
    f32 = {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in tensors.items()}
    return (
        config,
        f32,
        heads[f"exit.{last}.weight"].astype(np.float32).reshape(1, -1),
        heads[f"exit.{last}.bias"].astype(np.float32).reshape(1),
    )
