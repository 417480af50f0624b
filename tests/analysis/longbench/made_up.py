"""Samples in LongBench's schema, all made up, and folders of them."""

import json

CLASSES = ["City", "Date", "Number of something", "Number"]
QUESTIONS = {
    "qasper": ("Which colour is the box?", ["blue", "dark blue"]),
    "hotpotqa": ("Who built the tower?", ["Ada Lindt"]),
    "2wikimqa": ("Which film is older?", ["The Long Way"]),
    "trec": ("Question: Where is the harbour?\nType:", ["City"]),
    "triviaqa": ("Passage:\nThe lamp was lit.\nQuestion:\nWhat was lit?\nAnswer:", ["lamp", "the lamp"]),
    "lcc": ("", ["    return total"]),
    "repobench-p": ("def add(a, b):\n", ["    return a + b"]),
}
CONTEXTS = ("The box is {k} cm wide and blue. ", "Ada Lindt built the tower in {k} days. ", "total = total + {k}\n")


def line(task, number=0, sentences=4, **changes):
    """One sample of a task."""
    question, answers = QUESTIONS[task]
    context = "".join(CONTEXTS[k % 3].format(k=number + k) for k in range(sentences))
    made = {
        "input": question,
        "context": context,
        "answers": answers,
        "length": len(f"{context} {question}".split()),
        "dataset": task,
        "language": "en",
        "all_classes": CLASSES if task == "trec" else None,
        "_id": f"{task}-{number}",
    }
    return made | changes


def jsonl(*lines):
    return b"".join(json.dumps(each, ensure_ascii=False).encode() + b"\n" for each in lines)


def fill(folder, tasks=tuple(QUESTIONS), samples=3, suffix=""):
    """Write one file a task, samples of growing length."""
    folder.mkdir(exist_ok=True)
    for task in tasks:
        data = jsonl(*(line(task, number, sentences=3 + 3 * number) for number in range(samples)))
        (folder / f"{task}{suffix}.jsonl").write_bytes(data)
    return folder
