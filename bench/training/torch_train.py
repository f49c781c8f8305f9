"""PyTorch's side of the training benchmark: `torch_train.py STEPS.json PAIRS_AT_ONCE`, see run.ts.

BERT in fused operators under bf16 autocast (oneDNN), fused AdamW, no dropout. A step's pairs are sorted by length and go
through in groups of like lengths, so that little is padded; their logits meet in one loss.
"""
import json
import resource
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench" / "peers"))
from weights import load  # noqa: E402

torch.set_num_threads(2)
given = json.loads(Path(sys.argv[1]).read_text())
LIST, AT_ONCE = given["list"], int(sys.argv[2])
config, arrays, _, _ = load(str(ROOT / "models" / "default"))
heads = load_file(ROOT / "models" / "default" / "matryoshka.safetensors")
LAYERS, HIDDEN, HEADS = config["num_hidden_layers"], config["hidden_size"], config["num_attention_heads"]
W = {name: torch.nn.Parameter(torch.from_numpy(value).float()) for name, value in arrays.items()}
EXITS = [
    (
        torch.nn.Parameter(torch.from_numpy(heads[f"exit.{layer}.weight"]).float().view(1, -1)),
        torch.nn.Parameter(torch.from_numpy(heads[f"exit.{layer}.bias"]).float().view(1)),
    )
    for layer in range(1, LAYERS + 1)
]
optimizer = torch.optim.AdamW(
    [{"params": list(W.values()), "lr": 6e-5}, {"params": [p for head in EXITS for p in head], "lr": 1e-3}],
    weight_decay=0.01,
    fused=True,
)


def linear(x, name):
    return F.linear(x, W[f"{name}.weight"], W[f"{name}.bias"])


def norm(x, name):
    return F.layer_norm(x, (HIDDEN,), W[f"{name}.weight"], W[f"{name}.bias"], config["layer_norm_eps"])


def forward(ids, types, mask):
    """Logits (batch, layers)."""
    batch, length = ids.shape
    x = F.embedding(ids, W["embeddings.word_embeddings.weight"]) + F.embedding(types, W["embeddings.token_type_embeddings.weight"])
    x = norm(x + W["embeddings.position_embeddings.weight"][:length], "embeddings.LayerNorm")
    logits = []
    for i, (weight, bias) in enumerate(EXITS):
        layer = f"encoder.layer.{i}"
        part = lambda name: linear(x, f"{layer}.attention.self.{name}").view(batch, length, HEADS, -1).transpose(1, 2)
        attended = F.scaled_dot_product_attention(part("query"), part("key"), part("value"), attn_mask=mask)
        attended = attended.transpose(1, 2).reshape(batch, length, HIDDEN)
        x = norm(x + linear(attended, f"{layer}.attention.output.dense"), f"{layer}.attention.output.LayerNorm")
        up = F.gelu(linear(x, f"{layer}.intermediate.dense"))
        x = norm(x + linear(up, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
        logits.append(F.linear(x[:, 0].float(), weight, bias))
    return torch.cat(logits, 1)


def tensors(rows):
    width = max(len(row["ids"]) for row in rows)
    pad = lambda key: torch.tensor([row[key] + [0] * (width - len(row[key])) for row in rows])
    lengths = torch.tensor([len(row["ids"]) for row in rows])
    mask = torch.arange(width)[None, :] < lengths[:, None]
    return pad("ids"), pad("types"), None if bool(mask.all()) else mask[:, None, None, :]


def prepare(pairs):
    order = sorted(range(len(pairs)), key=lambda i: -len(pairs[i]["ids"]))
    groups = [order[i : i + AT_ONCE] for i in range(0, len(order), AT_ONCE)]
    return [tensors([pairs[i] for i in group]) for group in groups], torch.argsort(torch.tensor(order))


def step(groups, back):
    with torch.autocast("cpu", torch.bfloat16):
        logits = torch.cat([forward(*group) for group in groups])
    lists = F.log_softmax(logits.float()[back].view(-1, LIST, LAYERS), 1)  # the first pair of a list is its positive
    teacher = lists[..., -1:].detach()
    distill = (teacher.exp() * (teacher - lists[..., :-1])).sum(1)
    loss = (-lists[:, 0].sum(1) + 0.5 * distill.sum(1)).mean()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
    optimizer.step()
    return loss.item()


steps = [prepare(pairs) for pairs in given["steps"]]
for _ in sys.stdin:
    start = time.perf_counter()
    losses = [step(*prepared) for prepared in steps]
    milliseconds = (time.perf_counter() - start) * 1e3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"milliseconds": milliseconds, "loss": sum(losses) / len(losses), "peakMiB": peak}), flush=True)
