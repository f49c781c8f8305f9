"""nDCG@10 of the bundled model in float32 PyTorch, by Hugging Face's own BERT and tokenizer: what quality.ts is held to.
Prints bench/data/quality.json.

    python3 -m venv venv && venv/bin/pip install torch transformers safetensors
    venv/bin/python bench/quality_reference.py trec-dl-21 wikiqa hotpotqa-small musique-small > bench/data/quality.json
"""
import collections
import hashlib
import json
import math
import os
import re
import string
import sys

import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
MODEL, DATA = os.path.join(ROOT, "models", "default"), os.path.join(ROOT, "..", "shared", "data", "eval")
DEPTHS = [4, 6, 8, 12]

tokenizer = AutoTokenizer.from_pretrained(MODEL)
encoder = AutoModel.from_pretrained(MODEL, add_pooling_layer=False, dtype=torch.float32).eval()
heads = load_file(os.path.join(MODEL, "matryoshka.safetensors"))
SETTINGS = json.load(open(os.path.join(MODEL, "matryoshka.json")))
CARRY = SETTINGS.get("carry", [0] * len(SETTINGS["exitLayers"]))
CONDITIONED = SETTINGS["head"] == "query"
MATCH = SETTINGS.get("tokenTypes") == "match"


def unmarked():
    """Ids without match marks (docs/training.md): stop words of one piece, and punctuation."""
    source = open(os.path.join(ROOT, "lib", "match-types.ts")).read()
    words = " ".join(re.findall(r'"([a-z ]+)"', source[source.index("STOP_WORDS") : source.index("PUNCTUATION")])).split()
    pieces = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in [*words, *string.punctuation]]
    return {ids[0] for ids in pieces if len(ids) == 1}


UNMARKED = unmarked()


def encode(text, most):
    return tokenizer(text, add_special_tokens=False, truncation=True, max_length=most)["input_ids"]


@torch.inference_mode()
def scores(query, documents):
    """Logits (documents, DEPTHS)."""
    a = encode(query, 128)
    pairs = [(a, encode(document, 256 - 3 - len(a))) for document in documents]
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    alone = torch.tensor([[cls, *a, sep]])
    query_states = encoder(alone, torch.ones_like(alone), torch.zeros_like(alone), output_hidden_states=True).hidden_states
    out = torch.zeros(len(pairs), len(DEPTHS))
    order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][1]))
    for start in range(0, len(order), 16):
        chosen = order[start : start + 16]
        width = len(a) + 3 + len(pairs[chosen[-1]][1])
        ids, types, mask = (torch.zeros(len(chosen), width, dtype=torch.long) for _ in range(3))
        for row, i in enumerate(chosen):
            sequence = [cls, *a, sep, *pairs[i][1], sep]
            ids[row, : len(sequence)] = torch.tensor(sequence)
            types[row, len(a) + 2 : len(sequence)] = 1
            if MATCH:
                both = (set(a) & set(pairs[i][1])) - UNMARKED
                for place, token in enumerate(sequence):
                    if token in both:
                        types[row, place] = 3 if place < len(a) + 2 else 2
            mask[row, : len(sequence)] = 1
        states = encoder(ids, mask, types, output_hidden_states=True).hidden_states
        logit = 0
        for layer, share in zip(SETTINGS["exitLayers"], CARRY):
            weight, bias = heads[f"exit.{layer}.weight"].float().view(-1), heads[f"exit.{layer}.bias"].float()
            if CONDITIONED:
                weight = weight + heads[f"exit.{layer}.query.weight"].float() @ query_states[layer][0, 0]
            logit = (1 - share) * (states[layer][:, 0] @ weight + bias) + share * logit
            if layer in DEPTHS:
                out[chosen, DEPTHS.index(layer)] = logit
    return out


def ndcg10(grades, judged):
    """Gains are the grades; the ideal is over all judgements."""
    dcg = lambda values: sum(grade / math.log2(rank + 2) for rank, grade in enumerate(values[:10]))
    return dcg(grades) / dcg(sorted(judged, reverse=True))


def lines(path):
    with open(path, encoding="utf-8") as file:
        yield from file


sets = {}
for name in sys.argv[1:]:
    folder = os.path.join(DATA, name)
    queries = {j["_id"]: j["text"] for j in map(json.loads, lines(os.path.join(folder, "queries.jsonl")))}
    corpus = {j["_id"]: f"{j.get('title', '')} {j['text']}".strip() for j in map(json.loads, lines(os.path.join(folder, "corpus.jsonl")))}
    qrels = collections.defaultdict(dict)
    for line in list(lines(os.path.join(folder, "qrels", "test.full.tsv" if name == "trec-dl-21" else "test.tsv")))[1:]:
        query, document, grade = line.split("\t")
        qrels[query][document] = max(0, int(grade))
    run = collections.defaultdict(list)
    for line in lines(os.path.join(folder, "runs", "bm25.test.trec")):
        query, _, document, *_ = line.split()
        run[query].append(document)
    found = [[] for _ in DEPTHS]
    for query, candidates in run.items():
        if not any(qrels[query].values()):
            continue
        logits = scores(queries[query], [corpus[document] for document in candidates[:100]])
        for column in range(len(DEPTHS)):
            ranking = torch.sort(logits[:, column], descending=True, stable=True).indices.tolist()
            found[column].append(ndcg10([qrels[query].get(candidates[i], 0) for i in ranking], list(qrels[query].values())))
    sets[name] = [round(sum(values) / len(values), 4) for values in found]
    print(name, *sets[name], file=sys.stderr, flush=True)
files = sorted(name for name in os.listdir(MODEL) if name == "config.json" or name.endswith(".safetensors"))
kept = [SETTINGS.get(key) for key in ("exitLayers", "head", "compensation", "tokenTypes")] + ([SETTINGS["carry"]] if "carry" in SETTINGS else [])
digest = hashlib.sha256(b"".join(open(os.path.join(MODEL, name), "rb").read() for name in files) + json.dumps(kept, separators=(",", ":")).encode()).hexdigest()
print(json.dumps({"modelHash": digest, "layers": DEPTHS, "sets": sets}, indent=1))
