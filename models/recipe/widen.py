"""More unlabelled lists over prepare.py's "weak" passages, for what its titles and questions leave out: sentences as claims,
key words, two topics in one query; and candidates of every rank, BM25's first ones among them.

  python widen.py --bi-encoder bge-small-en-v1.5 --out OUT     OUT: what prepare.py wrote; adds OUT/wide

A sentence's own passage is among its candidates, and judged relevant, in half of the cases.
"""
import argparse, random, re
from pathlib import Path

import numpy as np

from prepare import INSTRUCTION, BiEncoder, lines, nearest, text_of, write_set

SENTENCES, KEYWORDS, PAIRS = 9000, 9000, 7000
# Queries of the labelled sets, asked of these passages.
QUESTIONS = {
    "squad-sent": 7000, "nq-gold": 3290, "medquad": 2500, "stackexchange-small": 3000, "pubmedqa": 1000, "climate-fever-sent": 1534, "scitldr": 2000
}
# Candidates: the bi-encoder's first FIRST, ranks from there to LAST in even ratios, BM25's first LEXICAL, one at random.
FIRST, LAST, BETWEEN, LEXICAL = 10, 2000, 9, 9
WORD = re.compile(r"[a-z0-9]+")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


class Bm25:
    """Okapi BM25 over words, with Anserini's k1 and b. Words of more than a tenth of the texts are `common`, and left out."""

    def __init__(self, texts, k1=0.9, b=0.4):
        postings, lengths = {}, np.zeros(len(texts), np.float32)
        for i, text in enumerate(texts):
            counts = {}
            for word in WORD.findall(text.lower()):
                counts[word] = counts.get(word, 0) + 1
            lengths[i] = sum(counts.values())
            for word, count in counts.items():
                postings.setdefault(word, []).append((i, count))
        lengths /= lengths.mean()
        self.size, self.common, self.weights = len(texts), set(), {}
        for word, found in postings.items():
            if len(found) > len(texts) / 10:
                self.common.add(word)
                continue
            documents = np.array([i for i, _ in found])
            counts = np.array([count for _, count in found], np.float32)
            idf = np.log(1 + (len(texts) - len(found) + 0.5) / (len(found) + 0.5))
            self.weights[word] = (documents, idf * counts * (k1 + 1) / (counts + k1 * (1 - b + b * lengths[documents])))

    def first(self, query, k):
        scores = np.zeros(self.size, np.float32)
        for word in set(WORD.findall(query.lower())):
            if word in self.weights:
                documents, weights = self.weights[word]
                scores[documents] += weights
        top = np.argpartition(-scores, k)[:k]
        return top[scores[top] > 0]


class Writer:
    """Makes queries out of passages; each of its methods may find nothing."""

    def __init__(self, corpus, common, draw):
        self.corpus, self.common, self.draw = corpus, common, draw

    def sentence(self, i):
        some = [s for s in SENTENCE_END.split(self.corpus[i]["text"]) if 6 <= len(s.split()) <= 30]
        return self.draw.choice(some) if some else None

    def keywords(self, i):
        """Two to five uncommon words of a sentence, in its order."""
        words = [word.strip(".,;:()\"'") for word in (self.sentence(i) or "").split()]
        words = [word for word in words if word and word.lower() not in self.common]
        count = self.draw.randint(2, 5)
        if len(words) < count:
            return None
        return " ".join(words[j] for j in sorted(self.draw.sample(range(len(words)), count)))

    def topic(self, i):
        return self.corpus[i].get("title") or self.keywords(i)

    def pair(self, i, j):
        """Two passages in one query, as questions over several hops have them."""
        one, other = self.topic(i), self.topic(j)
        if i == j or not one or not other or one == other:
            return None
        form = self.draw.random()
        if form < 0.4:
            return f"{one} and {other}"
        if form < 0.7:
            words = (self.sentence(i) or "").split()
            count = self.draw.randint(5, 10)
            start = self.draw.randint(0, max(0, len(words) - count))
            return f"{' '.join(words[start : start + count])} {other}" if words else None
        one, other = self.keywords(i), self.keywords(j)
        return f"{one} {other}" if one and other else None


def queries_of(out, corpus, vectors, common, draw):
    """[(kind, passage it was made of or None, text)]"""
    writer, everything = Writer(corpus, common, draw), range(len(corpus))
    made = [("sentence", i, writer.sentence(i)) for i in draw.sample(everything, SENTENCES)]
    made += [("keywords", i, writer.keywords(i)) for i in draw.sample(everything, KEYWORDS)]
    some = draw.sample(everything, PAIRS)
    near = nearest(vectors[some], vectors, 40)
    made += [("pair", i, writer.pair(i, int(draw.choice(list(near[n]))))) for n, i in enumerate(some)]
    for name, count in QUESTIONS.items():
        theirs = [query["text"] for query in lines(out / name / "queries.jsonl")]
        made += [("question", None, text) for text in draw.sample(theirs, min(count, len(theirs)))]
    made = [each for each in made if each[2]]
    draw.shuffle(made)
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bi-encoder", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--length", type=int, default=192, help="tokens of a text")
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    encode = BiEncoder(args.bi_encoder, args.out / "embeddings")
    corpus = list(lines(args.out / "weak" / "corpus.jsonl"))
    texts = [text_of(document) for document in corpus]
    bm25 = Bm25(texts)
    documents = encode("wide documents", texts, args.length)
    made = queries_of(args.out, corpus, documents, bm25.common, draw)
    vectors = encode("wide queries", [INSTRUCTION + text for *_, text in made], args.length)
    ranks = np.unique(np.geomspace(FIRST + 1, LAST, BETWEEN).astype(int)) - 1
    whole, queries, qrels, candidates = documents.astype(np.float32), [], {}, []
    for start in range(0, len(made), 512):
        scores = vectors[start : start + 512].astype(np.float32) @ whole.T
        for (kind, source, text), own in zip(made[start : start + 512], scores):
            top = np.argpartition(-own, LAST)[:LAST]
            order = top[np.argsort(-own[top], kind="stable")]
            chosen = set(map(int, (*order[:FIRST], *order[ranks], *bm25.first(text, LEXICAL), draw.randrange(len(corpus)))))
            query = {"_id": f"{kind}-{len(queries)}", "text": text}
            if source is not None and draw.random() < 0.5:
                chosen.discard(source)
            elif kind == "sentence":
                chosen.add(source)
                qrels[query["_id"]] = {corpus[source]["_id"]: 1}
            queries.append(query)
            candidates.append(chosen)
    write_set(args.out / "wide", corpus, queries, qrels, candidates, vectors, documents)
    print(f"wide: {len(queries)} lists, {sum(map(len, candidates)) / len(candidates):.1f} candidates each")


main()
