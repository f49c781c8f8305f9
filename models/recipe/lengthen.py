"""Lists of long documents, scored by the bi-encoder at that length: a model that has read nothing long judges long texts less well.

Writes one BEIR directory a set under OUT, as prepare.py does: queries of labelled sets on those candidates that have more than a
hundred words, and titles and sentences of arXiv's abstracts on the abstracts nearest to them.

  python lengthen.py --data DIR_OF_SETS --bi-encoder bge-small-en-v1.5 --out OUT [--share 1] [--device cuda]
"""
import argparse, random
from pathlib import Path

from prepare import INSTRUCTION, bi_encoder, lines, nearest, read_set, say, text_of, write_set

# Queries of each set, at share 1.
QUERIES = {"medquad": 70, "stackexchange-small": 70, "scitldr": 110, "pubmedqa": 110}
ABSTRACTS, OF_ABSTRACTS = 900, 170
WORDS, ABSTRACT_WORDS = 110, 170
LENGTH, QUERY_LENGTH = 384, 96
RELEVANT, FIRST, DRAWN, NEAR = 3, 8, 5, 15


def long_lists(data, name, encode, out, draw, share):
    corpus, index, qrels, bm25, queries = read_set(data / name, 1000)
    words = [len(text_of(document).split()) for document in corpus]
    long = lambda indices: [d for d in indices if words[d] > WORDS]
    first = {query: long(found) for query, found in bm25.items()}
    relevant = {query: long(index[d] for d in grades if d in index) for query, grades in qrels.items()}
    queries = [q for q in queries if len(first.get(q["_id"], [])) >= FIRST + 4 and relevant[q["_id"]]]
    queries = draw.sample(queries, min(int(QUERIES[name] * share), len(queries)))
    candidates = []
    for query in queries:
        own = first[query["_id"]]
        drawn = draw.sample(own[FIRST:], min(DRAWN, len(own) - FIRST))
        candidates.append({*relevant[query["_id"]][:RELEVANT], *own[:FIRST], *drawn})
    used = sorted({d for some in candidates for d in some})
    at = {d: i for i, d in enumerate(used)}
    qrels = {q["_id"]: {d: g for d, g in qrels[q["_id"]].items() if index.get(d) in at} for q in queries}
    write(out / name, [corpus[d] for d in used], queries, qrels, lambda *_: [{at[d] for d in some} for some in candidates], encode)


def abstracts(data, encode, out, draw, share):
    """Half of the queries are titles, the others a sentence, of these half the last one."""
    papers = [p for p in lines(data / "arxiv-weak" / "pairs.jsonl.gz") if len(p["text"].split()) > ABSTRACT_WORDS]
    papers = draw.sample(papers, min(int(ABSTRACTS * share), len(papers)))
    corpus = [{"_id": paper["id"], "text": paper["text"]} for paper in papers]
    queries, qrels, own = [], {}, []
    for i in draw.sample(range(len(papers)), int(OF_ABSTRACTS * share)):
        paper = papers[i]
        sentences = [sentence.strip() for sentence in paper["text"].replace("\n", " ").split(". ")]
        sentences = [sentence for sentence in sentences if 9 < len(sentence.split()) < 32]
        kind = draw.random()
        if kind < 0.5 or not sentences:
            query = {"_id": f"t{paper['id']}", "text": paper["title"]}
        else:
            query = {"_id": f"s{paper['id']}", "text": sentences[-1] if kind < 0.75 else draw.choice(sentences)}
        queries.append(query)
        qrels[query["_id"]] = {paper["id"]: 1}
        own.append(i)

    def candidates(vectors, documents):
        near = nearest(vectors, documents, NEAR, encode.device).tolist()
        return [{*near[q], i, *draw.sample(range(len(papers)), 2)} for q, i in enumerate(own)]

    write(out / "arxiv", corpus, queries, qrels, candidates, encode)


def write(out, corpus, queries, qrels, candidates, encode):
    """`candidates` makes each query's set of document indices from the vectors of queries and documents."""
    documents = encode(f"{out.name} documents", [text_of(document) for document in corpus], LENGTH)
    vectors = encode(f"{out.name} queries", [INSTRUCTION + query["text"] for query in queries], QUERY_LENGTH)
    write_set(out, corpus, queries, qrels, candidates(vectors, documents), vectors, documents)
    say(f"{out.name}: {len(queries)} lists of {len(corpus)} documents")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "bi-encoder", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--share", type=float, default=1, help="of the queries and of arXiv's abstracts")
    args = parser.parse_args()
    draw, encode = random.Random(77), bi_encoder(args)
    for name in QUERIES:
        long_lists(args.data, name, encode, args.out, draw, args.share)
    abstracts(args.data, encode, args.out, draw, args.share)


main()
