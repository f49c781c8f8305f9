"""More unlabelled lists over prepare.py's "weak" passages, for what its titles and questions leave out: sentences as claims,
key words, two topics in one query; and candidates of every rank, BM25's first ones among them.

  python widen.py --bi-encoder bge-small-en-v1.5 --out OUT     OUT: what prepare.py wrote; adds OUT/wide

A sentence's own passage is among its candidates, and judged relevant, in half of the cases.
--device cuda does what it does in prepare.py.
"""
import argparse, multiprocessing, os, random, re
from collections import Counter
from pathlib import Path

import numpy as np

from prepare import BLOCK, INSTRUCTION, bi_encoder, lines, nearest, say, text_of, write_set

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
            counts = Counter(WORD.findall(text.lower()))
            lengths[i] = counts.total()
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
        for word in sorted(set(WORD.findall(query.lower()))):  # sums must not depend on the order of a set
            if word in self.weights:
                documents, weights = self.weights[word]
                scores[documents] += weights
        top = np.argpartition(-scores, k)[:k]
        return top[scores[top] > 0]

    def pool(self):
        """Processes that run `first_of` on this index, which a fork shares. A container may show many more cores than it has."""
        return multiprocessing.get_context("fork").Pool(min(16, os.cpu_count()), keep, (self,))


def keep(bm25):
    global INDEX
    INDEX = bm25


def first_of(query):
    return INDEX.first(query, LEXICAL).tolist()


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


def queries_of(out, passages, draw, share):
    """[(kind, passage it was made of or None, text)]"""
    writer, everything = Writer(passages.corpus, passages.common, draw), range(len(passages.corpus))
    some_of = lambda them, count: draw.sample(them, min(int(count * share), len(them)))
    made = [("sentence", i, writer.sentence(i)) for i in some_of(everything, SENTENCES)]
    made += [("keywords", i, writer.keywords(i)) for i in some_of(everything, KEYWORDS)]
    some = some_of(everything, PAIRS)
    near = passages.near(some, 40)
    made += [("pair", i, writer.pair(i, draw.choice(near[n]))) for n, i in enumerate(some)]
    for name, count in QUESTIONS.items():
        theirs = [query["text"] for query in lines(out / name / "queries.jsonl")]
        made += [("question", None, text) for text in some_of(theirs, count)]
    made = [each for each in made if each[2]]
    draw.shuffle(made)
    return made


class Passages:
    """prepare.py's "weak" passages, their vectors, and what is found among them."""

    def __init__(self, args):
        self.corpus = list(lines(args.out / "weak" / "corpus.jsonl"))
        texts = [text_of(document) for document in self.corpus]
        bm25 = Bm25(texts)
        say(f"BM25 of {len(texts)} documents")
        self.common = bm25.common
        self.pool = bm25.pool()  # before CUDA is there, which no fork can use
        self.encode, self.length = bi_encoder(args), args.length
        self.documents = self.encode("documents", texts, self.length)

    def near(self, some, k):
        return nearest(self.documents[some], self.documents, k, self.encode.device).tolist()

    def candidates(self, texts, draw):
        """The texts' vectors, and an iterator over the set of each one's candidates."""
        lexical = self.pool.imap(first_of, texts, chunksize=64)
        vectors = self.encode("queries", [INSTRUCTION + text for text in texts], self.length)
        ranks = [*range(FIRST), *np.unique(np.geomspace(FIRST + 1, LAST, BETWEEN).astype(int)) - 1]
        dense = self.ranked(vectors)[:, ranks].tolist()
        say("the bi-encoder's first")
        return vectors, ({*near, *first, draw.randrange(len(self.corpus))} for near, first in zip(dense, lexical))

    def ranked(self, queries):
        """The first LAST documents of each query, in order."""
        if self.encode.device != "cpu":
            return nearest(queries, self.documents, LAST, self.encode.device)
        found, whole = [], self.documents.astype(np.float32)
        for start in range(0, len(queries), BLOCK):
            for own in queries[start : start + BLOCK].astype(np.float32) @ whole.T:
                top = np.argpartition(-own, LAST)[:LAST]
                found.append(top[np.argsort(-own[top], kind="stable")])
        return np.stack(found)

    def write(self, out, queries, qrels, candidates, vectors):
        self.pool.terminate()
        write_set(out, self.corpus, queries, qrels, candidates, vectors, self.documents)
        say(f"{out.name}: {len(queries)} lists, {sum(map(len, candidates)) / len(candidates):.1f} candidates each")


def options(description, seed):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bi-encoder", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--length", type=int, default=192, help="tokens of a text")
    parser.add_argument("--share", type=float, default=1, help="of the queries")
    parser.add_argument("--seed", type=int, default=seed)
    return parser.parse_args()


def main():
    args = options(__doc__, 7)
    draw = random.Random(args.seed)
    passages = Passages(args)
    made = queries_of(args.out, passages, draw, args.share)
    say(f"{len(made)} queries")
    vectors, found = passages.candidates([text for *_, text in made], draw)
    queries, qrels, candidates = [], {}, []
    for (kind, source, text), chosen in zip(made, found):
        query = {"_id": f"{kind}-{len(queries)}", "text": text}
        if source is not None and draw.random() < 0.5:
            chosen.discard(source)
        elif kind == "sentence":
            chosen.add(source)
            qrels[query["_id"]] = {passages.corpus[source]["_id"]: 1}
        queries.append(query)
        candidates.append(chosen)
    passages.write(args.out / "wide", queries, qrels, candidates, vectors)


if __name__ == "__main__":
    main()
