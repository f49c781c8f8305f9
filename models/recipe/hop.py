"""Unlabelled lists for questions about two passages at once, as multi-hop sets have them: two articles compared, and sentences in
which an article is described instead of named. The bi-encoder alone teaches on them.

  python hop.py --bi-encoder bge-small-en-v1.5 --out OUT     OUT: what prepare.py wrote; adds OUT/hop

The passages that a query was made of are among its candidates; only where it is no question, its sentence's own one is judged
relevant. --device cuda does what it does in prepare.py.
"""
import random, re

from prepare import say
from widen import Passages, Writer, options

COMPARED, DESCRIBED = 6000, 9000
# {a}, {b}: titles; {noun}: what the first one's passage says it is.
COMPARISONS = [
    "Are {a} and {b} both {noun}s?", "Were {a} and {b} of the same nationality?", "Are {a} and {b} in the same country?",
    "Who was born first, {a} or {b}?", "Which is older, {a} or {b}?", "Which was founded first, {a} or {b}?",
    "What do {a} and {b} have in common?", "Between {a} and {b}, which {noun} came first?", "Which {noun} is larger, {a} or {b}?",
    "{a} and {b} are both what kind of {noun}?", "What is the {noun} that {a} and {b} share?", "Is {a} or {b} the better known {noun}?",
]
QUESTIONS = ["What", "Who", "Which {noun}", "In what year", "Where", "When", "What is the name of the one of whom it is said:"]
DESCRIPTION = re.compile(r"\b(?:is|was|are|were) (?:an?|the|one of the) ([^.,;()]{8,90})")
NAME = re.compile(r"[A-Z][\w'’-]+(?: (?:of|the|de|and|[A-Z0-9][\w'’-]*))* ?[\w'’-]*")


def plain(title):
    """Without what tells it from its namesakes."""
    return re.sub(r" \(.*\)$", "", title)


def description_of(passage):
    """"American film director" from "X is an American film director, …"; None where it says no such thing."""
    found = DESCRIPTION.search(passage["text"][:250])
    words = re.split(r" (?:who|which|that|in|from|by|and) ", found[1])[0].split() if found else []
    return " ".join(words[:7]) if words else None


def compared(passages, draw, count):
    """[(passages it was made of, relevant ones, query)]"""
    titled = [i for i, passage in enumerate(passages.corpus) if passage.get("title")]
    some = draw.sample(titled, min(count, len(titled)))
    made = []
    for i, near in zip(some, passages.near(some, 30)):
        one = passages.corpus[i]
        others = [j for j in near if passages.corpus[j].get("title") not in (None, "", one["title"])]
        description = description_of(one)
        if not others or not description:
            continue
        j = draw.choice(others)
        a, b = plain(one["title"]), plain(passages.corpus[j]["title"])
        made.append(((i, j), (), draw.choice(COMPARISONS).format(a=a, b=b, noun=description.split()[-1])))
    return made


def described(passages, draw, count):
    """The same, of sentences that name another article, which its own description stands for."""
    writer, articles = Writer(passages.corpus, passages.common, draw), {}
    for j, passage in enumerate(passages.corpus):
        title, description = plain(passage.get("title") or ""), description_of(passage)
        if len(title) > 3 and description and title not in articles:
            articles[title] = (j, description)
    made = []
    for i in draw.sample(range(len(passages.corpus)), len(passages.corpus)):
        if len(made) >= count:
            break
        sentence, own = writer.sentence(i), plain(passages.corpus[i].get("title") or "")
        names = [name.strip() for name in NAME.findall(sentence or "")]
        names = [name for name in names if name in articles and name != own]
        if not names:
            continue
        name = draw.choice(names)
        j, description = articles[name]
        told = sentence.rstrip(".").replace(name, f"the {description}", 1)
        if draw.random() < 0.5:
            words = told.split()
            start = draw.randint(0, max(0, len(words) - 14))
            told = " ".join(words[start : start + 14])
        question = draw.choice(QUESTIONS).format(noun=description.split()[-1])
        asked = draw.random() < 0.7
        made.append(((i, j), () if asked else (i,), f"{question} {told}?" if asked else told))
    return made


def main():
    args = options(__doc__, 17)
    draw = random.Random(args.seed)
    passages = Passages(args)
    made = compared(passages, draw, int(COMPARED * args.share)) + described(passages, draw, int(DESCRIBED * args.share))
    draw.shuffle(made)
    say(f"{len(made)} queries")
    vectors, found = passages.candidates([text for *_, text in made], draw)
    candidates = [chosen | set(own) for (own, *_), chosen in zip(made, found)]
    queries = [{"_id": f"hop-{i}", "text": text} for i, (*_, text) in enumerate(made)]
    qrels = {f"hop-{i}": {passages.corpus[d]["_id"]: 1 for d in relevant} for i, (_, relevant, _) in enumerate(made)}
    passages.write(args.out / "hop", queries, qrels, candidates, vectors)


main()
