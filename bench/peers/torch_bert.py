"""BERT cross-encoder in PyTorch's fused operators: `torch_bert.py f32|bf16|f16 cpu|cuda:0`.

Each line of stdin is a list of batches of {ids, types}; each line of stdout gives the milliseconds their scoring took
(padding and tensors not counted), the CPU milliseconds, and the logits in order.
"""
import json
import os
import sys
import time

import torch
import torch.nn.functional as F

from weights import load

HERE = os.path.dirname(os.path.abspath(__file__))
DTYPE = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[sys.argv[1]]
DEVICE = sys.argv[2]
torch.set_num_threads(2)

config, arrays, head_weight, head_bias = load(os.path.join(HERE, "..", "..", "models", "default"))
W = {name: torch.from_numpy(value).to(DEVICE, DTYPE) for name, value in arrays.items()}
HEAD = torch.from_numpy(head_weight).to(DEVICE), torch.from_numpy(head_bias).to(DEVICE)
HIDDEN, HEADS = config["hidden_size"], config["num_attention_heads"]
QKV = [
    tuple(
        torch.cat([W[f"encoder.layer.{i}.attention.self.{part}.{kind}"] for part in ("query", "key", "value")])
        for kind in ("weight", "bias")
    )
    for i in range(config["num_hidden_layers"])
]


def linear(x, name):
    return F.linear(x, W[f"{name}.weight"], W[f"{name}.bias"])


def norm(x, name):
    return F.layer_norm(x, (HIDDEN,), W[f"{name}.weight"], W[f"{name}.bias"], config["layer_norm_eps"])


def score(ids, types, mask):
    """ids and types (batch, length); mask (batch, 1, 1, length) or None where nothing is padded. Logits (batch,)."""
    batch, length = ids.shape
    x = F.embedding(ids, W["embeddings.word_embeddings.weight"])
    x = x + F.embedding(types, W["embeddings.token_type_embeddings.weight"])
    x = norm(x + W["embeddings.position_embeddings.weight"][:length], "embeddings.LayerNorm")
    for i, (weight, bias) in enumerate(QKV):
        layer = f"encoder.layer.{i}"
        qkv = F.linear(x, weight, bias).view(batch, length, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(*qkv, attn_mask=mask)
        attended = attended.transpose(1, 2).reshape(batch, length, HIDDEN)
        x = norm(x + linear(attended, f"{layer}.attention.output.dense"), f"{layer}.attention.output.LayerNorm")
        up = F.gelu(linear(x, f"{layer}.intermediate.dense"))
        x = norm(x + linear(up, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    return F.linear(x[:, 0].float(), *HEAD)[:, 0]


def tensors(rows):
    width = max(len(row["ids"]) for row in rows)
    pad = lambda key: torch.tensor([row[key] + [0] * (width - len(row[key])) for row in rows]).to(DEVICE)
    lengths = torch.tensor([len(row["ids"]) for row in rows])
    mask = torch.arange(width)[None, :] < lengths[:, None]
    return pad("ids"), pad("types"), None if bool(mask.all()) else mask[:, None, None, :].to(DEVICE)


print(json.dumps({"version": torch.__version__}), flush=True)
with torch.inference_mode():
    for line in sys.stdin:
        batches = [tensors(rows) for rows in json.loads(line)]
        start, cpu = time.perf_counter(), time.process_time()
        logits = [value for batch in batches for value in score(*batch).tolist()]
        spent = {"milliseconds": (time.perf_counter() - start) * 1e3, "cpu": (time.process_time() - cpu) * 1e3}
        print(json.dumps({**spent, "logits": logits}), flush=True)
