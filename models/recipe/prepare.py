"""Candidate lists and teacher scores for training the bundled model, from the sets named in its model card.

Writes one BEIR directory a set under OUT: corpus.jsonl, queries.jsonl, qrels/train.tsv and runs/bi-encoder.trec, whose
candidates are BM25's first ones, the bi-encoder's first ones and a few drawn at random, scored by the bi-encoder.
Unlabelled lists, of every set's queries against Wikipedia and arXiv, become a set of their own, "weak".

  python prepare.py --data DIR_OF_SETS --bi-encoder bge-small-en-v1.5 --out OUT

Needs numpy, and this package built (npm run build). Embeddings are kept in OUT/embeddings, so a run that was stopped goes on.
With --device cuda, PyTorch and transformers embed and search instead, in seconds: nothing is kept.
"""
import argparse, gzip, hashlib, json, random, subprocess, time
from pathlib import Path

import numpy as np

LABELLED = ["squad-sent", "nq-gold", "medquad", "stackexchange-small", "scitldr", "pubmedqa", "climate-fever-sent"]
# What BAAI's model card gives short queries when they look for passages.
INSTRUCTION = "Represent this sentence for searching relevant passages: "
CHUNK = 8192
# Queries that are compared with all documents at once.
BLOCK = 512
START = time.monotonic()


def say(message):
    print(f"{time.monotonic() - START:6.1f} s  {message}", flush=True)


def lines(path):
    with (gzip.open(path, "rt") if path.suffix == ".gz" else open(path)) as file:
        yield from map(json.loads, file)


def text_of(document):
    return f"{document['title']} {document['text']}".strip() if document.get("title") else document["text"]


class BiEncoder:
    """Vectors from embed.mjs, kept in `cache`."""

    device = "cpu"

    def __init__(self, path, cache):
        self.cache = cache
        cache.mkdir(parents=True, exist_ok=True)
        embed = Path(__file__).with_name("embed.mjs")
        self.process = subprocess.Popen(["node", str(embed), str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, name, texts, length):
        """[n, 384] unit vectors, in float16."""
        parts = []
        for start in range(0, len(texts), CHUNK):
            chunk = texts[start : start + CHUNK]
            key = hashlib.sha256("\0".join([str(length), *chunk]).encode()).hexdigest()[:16]
            path, given, out = (self.cache / f"{key}.{kind}" for kind in ("npy", "json", "f32"))
            if not path.exists():
                given.write_text(json.dumps(chunk))
                self.process.stdin.write(json.dumps({"texts": str(given), "out": str(out), "length": length}) + "\n")
                self.process.stdin.flush()
                if not self.process.stdout.readline():
                    raise SystemExit("embed.mjs ended")
                np.save(path, np.fromfile(out, np.float32).reshape(len(chunk), -1).astype(np.float16))
                given.unlink()
                out.unlink()
                say(f"{name}: {start + len(chunk)} of {len(texts)}")
            parts.append(np.load(path))
        return np.concatenate(parts)


class TorchBiEncoder:
    """The same vectors by PyTorch, on one of its devices."""

    TOKENS = 65536  # of a batch, padding among them

    def __init__(self, path, device):
        import torch
        from tokenizers import Tokenizer
        from transformers import AutoModel

        self.torch, self.device = torch, device
        self.tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
        self.tokenizer.no_padding()
        torch.backends.cuda.enable_cudnn_sdp(False)  # cuDNN would plan anew for each shape, and nearly each batch has its own
        self.model = AutoModel.from_pretrained(path, dtype=torch.bfloat16, add_pooling_layer=False).to(device).eval()
        say(f"bi-encoder on {device}")

    def __call__(self, name, texts, length):
        with self.torch.inference_mode():
            vectors = self.embed(texts, length).cpu().numpy()
        say(f"{name}: {len(texts)} embedded")
        return vectors

    def embed(self, texts, length):
        self.tokenizer.enable_truncation(length)
        tokens = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts)]
        # Texts of like length go through together, the longest first: it says how many fit.
        order = sorted(range(len(texts)), key=lambda i: -len(tokens[i]))
        vectors = self.torch.empty(len(texts), self.model.config.hidden_size, dtype=self.torch.float16, device=self.device)
        pad, at = self.model.config.pad_token_id, 0
        while at < len(order):
            longest = len(tokens[order[at]])
            some = order[at : at + self.TOKENS // longest]
            at += len(some)
            # Through numpy, which reads lists much faster.
            batch = np.array([tokens[i] + [pad] * (longest - len(tokens[i])) for i in some])
            batch = self.torch.from_numpy(batch).to(self.device)
            first = self.model(batch, attention_mask=(batch != pad).long()).last_hidden_state[:, 0]
            unit = self.torch.nn.functional.normalize(first.float(), dim=1)
            vectors[self.torch.tensor(some, device=self.device)] = unit.half()
        return vectors


def bi_encoder(args):
    if args.device == "cpu":
        return BiEncoder(args.bi_encoder, args.out / "embeddings")
    return TorchBiEncoder(args.bi_encoder, args.device)


def nearest(queries, documents, k, device="cpu"):
    """Indices [n, k] of the documents nearest to each query, block by block. PyTorch's are in order, numpy's are not."""
    if device != "cpu":
        import torch

        documents = torch.from_numpy(documents).to(device).float().T
        blocks = (block.to(device).float() @ documents for block in torch.from_numpy(queries).split(BLOCK))
        return torch.cat([scores.topk(min(k, scores.shape[1])).indices for scores in blocks]).cpu().numpy()
    found, documents = [], documents.astype(np.float32)
    for start in range(0, len(queries), BLOCK):
        scores = queries[start : start + BLOCK].astype(np.float32) @ documents.T
        found.append(np.argpartition(-scores, min(k, scores.shape[1]) - 1)[:, :k])
    return np.concatenate(found)


def write_set(out, corpus, queries, qrels, candidates, query_vectors, document_vectors):
    """`candidates[i]` are document indices of query i. The run is ordered by score, as trec_eval wants it."""
    for folder in ("qrels", "runs"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    used = sorted({d for some in candidates for d in some})
    with open(out / "corpus.jsonl", "w") as file:
        for d in used:
            file.write(json.dumps({"_id": corpus[d]["_id"], "title": corpus[d].get("title", ""), "text": corpus[d]["text"]}) + "\n")
    with open(out / "queries.jsonl", "w") as file:
        for query in queries:
            file.write(json.dumps({"_id": query["_id"], "text": query["text"]}) + "\n")
    with open(out / "qrels" / "train.tsv", "w") as file:
        file.write("query-id\tcorpus-id\tscore\n")
        for query in queries:
            for document, grade in qrels.get(query["_id"], {}).items():
                file.write(f"{query['_id']}\t{document}\t{grade}\n")
    with open(out / "runs" / "bi-encoder.trec", "w") as file:
        query_vectors, document_vectors = query_vectors.astype(np.float32), document_vectors.astype(np.float32)
        for query, vector, some in zip(queries, query_vectors, map(sorted, candidates)):
            scores = document_vectors[some] @ vector
            # A list of numbers is many times as fast as an array to go through one by one, and there are millions.
            order, scores, name = np.argsort(-scores, kind="stable").tolist(), scores.tolist(), query["_id"]
            file.writelines(
                f"{name} Q0 {corpus[some[j]]['_id']} {rank} {scores[j]:.5f} bi-encoder\n" for rank, j in enumerate(order, 1)
            )


def read_set(directory, depth):
    """Documents, their indices by id, every query's grades, its BM25 candidates up to rank `depth`, and the judged queries; of all splits."""
    corpus = list(lines(directory / "corpus.jsonl"))
    index = {document["_id"]: i for i, document in enumerate(corpus)}
    qrels, bm25 = {}, {}
    for path in sorted((directory / "qrels").glob("*.tsv")):
        for query, document, grade in (line.split("\t") for line in path.read_text().splitlines()[1:]):
            qrels.setdefault(query, {})[document] = int(grade)
    for path in sorted((directory / "runs").glob("bm25.*.trec")):
        for query, _, document, rank, *_ in (line.split() for line in path.read_text().splitlines()):
            if int(rank) <= depth:
                bm25.setdefault(query, []).append(index[document])
    queries = [q for q in lines(directory / "queries.jsonl") if q["_id"] in qrels]
    return corpus, index, qrels, bm25, queries


def labelled(data, name, encode, out, args, draw):
    """The set's own queries and documents. Returns queries and their vectors."""
    corpus, index, qrels, bm25, queries = read_set(data / name, args.bm25)
    queries = queries[: args.queries]
    documents = encode(f"{name} documents", [text_of(d) for d in corpus], args.length)
    vectors = encode(f"{name} queries", [INSTRUCTION + q["text"] for q in queries], args.length)
    near = nearest(vectors, documents, args.dense, encode.device).tolist()
    candidates = [
        {index[d] for d in qrels[q["_id"]] if d in index} | set(bm25.get(q["_id"], [])) | set(near[i])
        | set(draw.sample(range(len(corpus)), args.drawn))
        for i, q in enumerate(queries)
    ]
    write_set(out / name, corpus, queries, qrels, candidates, vectors, documents)
    say(f"{name}: {len(queries)} lists, {sum(map(len, candidates)) / len(queries):.1f} candidates each")
    return [{"_id": f"{name}-{q['_id']}", "text": q["text"]} for q in queries], vectors


def weak(data, others, encode, out, args, draw):
    """Wikipedia and arXiv: titles as queries with their own text as positive; every other set's queries unlabelled."""
    articles = {}
    for passage in lines(data / "wikipedia-weak" / "passages.jsonl.gz"):
        articles.setdefault(passage["id"].split("-")[0], []).append(passage)
    chosen = draw.sample(sorted(articles), len(articles))
    corpus, queries, qrels = [], [], {}
    for article in chosen:
        if len(corpus) >= args.wikipedia:
            break
        for passage in articles[article]:
            identifier = f"w{passage['id']}"
            # The title is the query: the passage must not begin with it in half of the cases, or it would be a word game.
            title = passage["title"] if draw.random() < 0.5 else ""
            corpus.append({"_id": identifier, "title": title, "text": passage["text"]})
            queries.append({"_id": identifier, "text": f"{passage['title']} {passage['heading']}".strip()})
            qrels[identifier] = {identifier: 1}
    for paper in draw.sample(list(lines(data / "arxiv-weak" / "pairs.jsonl.gz")), args.arxiv):
        identifier = f"a{paper['id']}"
        corpus.append({"_id": identifier, "title": "", "text": paper["text"]})
        queries.append({"_id": identifier, "text": paper["title"]})
        qrels[identifier] = {identifier: 1}
    documents = encode("weak documents", [text_of(d) for d in corpus], args.length)
    titles = draw.sample(range(len(queries)), min(args.titles, len(queries)))
    queries = [queries[i] for i in titles]
    vectors = encode("weak queries", [INSTRUCTION + q["text"] for q in queries], args.length)
    for theirs, their_vectors in others:
        some = draw.sample(range(len(theirs)), min(args.others, len(theirs)))
        queries += [theirs[i] for i in some]
        vectors = np.concatenate([vectors, their_vectors[some]])
    near = nearest(vectors, documents, args.dense + args.bm25, encode.device).tolist()
    index = {document["_id"]: i for i, document in enumerate(corpus)}
    candidates = [
        set(near[i]) | {index[d] for d in qrels.get(q["_id"], {})} | set(draw.sample(range(len(corpus)), args.drawn))
        for i, q in enumerate(queries)
    ]
    write_set(out / "weak", corpus, queries, qrels, candidates, vectors, documents)
    say(f"weak: {len(queries)} lists")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bi-encoder", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cpu", help="cpu: this package embeds; else PyTorch, on this device of it: cuda")
    parser.add_argument("--length", type=int, default=160, help="tokens of a text")
    parser.add_argument("--queries", type=int, help="of each labelled set, its first ones; all by default")
    parser.add_argument("--bm25", type=int, default=15, help="of BM25's first candidates")
    parser.add_argument("--dense", type=int, default=15, help="of the bi-encoder's first candidates")
    parser.add_argument("--drawn", type=int, default=4, help="candidates drawn at random")
    parser.add_argument("--wikipedia", type=int, default=60_000, help="passages")
    parser.add_argument("--arxiv", type=int, default=12_000, help="abstracts")
    parser.add_argument("--titles", type=int, default=24_000, help="of them used as queries")
    parser.add_argument("--others", type=int, default=5_000, help="queries of each labelled set used against Wikipedia and arXiv")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    encode = bi_encoder(args)
    others = [labelled(args.data, name, encode, args.out, args, draw) for name in LABELLED]
    weak(args.data, others, encode, args.out, args, draw)


if __name__ == "__main__":
    main()
