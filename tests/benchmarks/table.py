"""The measurements as Markdown."""

import statistics

from tests.benchmarks.bars import Speeds, best_exp
from tests.benchmarks.shape import NAMES
from tests.benchmarks.speeds import GRADIENT_LENGTH

OUR_TASKS = {
    "forward": "forward with logits",
    "observed": "forward with the observers of `norms`",
    "scaled": "forward with factors on A and dt",
    "decays": "forward with the decays of every mode measured",
    "norms": "norms pass",
    "gradient": "gradient step with respect to scales",
}
MEASURED_TWICE = {"seconds": "wall-clock time", "cpu_seconds": "processor time"}


def markdown(parts, bars, clock):
    """Return the whole report."""
    lines = ["# Speed against named peers", "", *_head(parts, clock)]
    for arch, name in NAMES.items():
        if arch in parts:
            speeds = Speeds(parts[arch]["entries"], clock)
            lines += ["", f"## {name}", "", *_speeds(parts[arch], speeds), "", *_gradients(parts[arch], speeds)]
            lines += ["", *_machine(arch, parts[arch], speeds)]
    if bars:
        lines += ["", "## Bars", "", "| what | measured | wanted | |", "|---|---|---|---|"]
        lines += [
            f"| {b.what} | {_number(b)} | {'>=' if b.at_least else '<='} {b.wanted:g} | {b.verdict} |" for b in bars
        ]
    return "\n".join(lines) + "\n"


def _head(parts, clock):
    lines = []
    for name, part in parts.items():
        a = part["about"]
        lines.append(f"- {name}: {a['date']}, {a['processor']}, torch {a['torch']}, commit {a['commit'] or 'unknown'}")
    return [
        *lines,
        "",
        "4 layers, d_model 256, d_inner 512, 264 ids, batch 1, identical random weights, one thread unless said. Times "
        f"are medians of {MEASURED_TWICE[clock]}; a run of anything follows a run of our forward in the same process "
        "or the next, and ratios are medians over such pairs. Memory is the growth of the peak of a fresh process over "
        "the loaded model in its first run, libraries loaded on the way included; in brackets over the process after "
        "a first short call.",
    ]


def _lengths(part):
    return sorted({e["length"] for e in part["entries"]} - {GRADIENT_LENGTH})


def _rows(part):
    """Return (contestant, task) in order, without the machine's own rates."""
    peers = dict.fromkeys(e["contestant"] for e in part["entries"] if e["contestant"] != "ours")
    return [*(("ours", task) for task in OUR_TASKS), *((peer, "forward") for peer in peers)]


def _speeds(part, speeds):
    lengths = _lengths(part)
    head = "".join(f" {n:,} |" for n in lengths)
    told = "Tokens a second; how many times as long as our forward it takes; memory growth; count of runs."
    lines = [told, ""]
    lines += [f"| |{head}", "|---|" + "---|" * len(lengths)]
    absent = {}
    for contestant, task in _rows(part):
        cells = [_cell(speeds, contestant, task, n) for n in lengths]
        for e in part["entries"]:
            if (e["contestant"], e["task"]) == (contestant, task) and e["absent"]:
                absent[f"{contestant}, {task}, at {e['length']:,}"] = e["absent"]
        label = f"**ours**: {OUR_TASKS[task]}" if contestant == "ours" else f"{contestant}: {task}"
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    lines += ["", "Logits against ours, largest difference over the largest logit, at 2,304 tokens: " + "; ".join(
        f"{peer} {value if isinstance(value, str) else f'{value:.1e}'}" for peer, value in part["agreement"].items()
    ) + "."]  # fmt: skip
    versions = dict.fromkeys(e["version"] for e in part["entries"] if e["version"])
    lines += [f"Versions: {', '.join(versions)}.", *(f"Absent: {what}: {why}." for what, why in absent.items())]
    return lines


def _gradients(part, speeds):
    """Compare gradients where the peers' can be computed."""
    told = "Gradient of the loss with respect to scales (ours: each channel's or head's; theirs: A_log or such scales) "
    lines = [told + f"at {GRADIENT_LENGTH:,} tokens, times as long as ours.", ""]
    lines += ["| | tokens/s | times | memory growth | runs |", "|---|---|---|---|---|"]
    ours = speeds.over_forward("ours", "gradient", GRADIENT_LENGTH)
    for contestant in speeds.contestants():
        found = speeds.entry(contestant, "gradient", GRADIENT_LENGTH)
        if found and ours:
            rate, ratio = (f(contestant, "gradient", GRADIENT_LENGTH) for f in (speeds.rate, speeds.over_forward))
            cells = (f"{rate:,.0f}", f"{ratio / ours:.2f}", f"{found['growth_mb']:.0f} MB", str(len(found["seconds"])))
            lines.append(f"| {contestant} | " + " | ".join(cells) + " |")
    return lines


def _cell(speeds, contestant, task, length):
    rate = speeds.rate(contestant, task, length)
    if rate is None:
        return "-"
    ratio = speeds.over_forward(contestant, task, length)
    times = "" if (contestant, task) == ("ours", "forward") else f"{ratio:.2f}x, "
    strict, warm = (speeds.growth(contestant, task, length, key) for key in ("growth_mb", "growth_warm_mb"))
    memory = "-" if strict is None else f"{strict:.0f} MB ({warm:.0f})"
    runs = len(speeds.entry(contestant, task, length)[speeds.clock])
    return f"{rate:,.0f}; {times}{memory}; {runs} run{'s' if runs > 1 else ''}"


def _machine(arch, part, speeds):
    """What the machine did between the runs."""
    lengths = _lengths(part)
    lines = ["| the machine in the same run |" + "".join(f" {n:,} |" for n in lengths), "|---|" + "---|" * len(lengths)]

    def row(label, value):
        lines.append(f"| {label} | " + " | ".join(_or_dash(value(n)) for n in lengths) + " |")

    row("product of two 2048 x 2048 matrices", lambda n: _giga(speeds.rate("ours", "square product", n), "GFLOP/s"))
    row("our forward's linear layers, share of that rate", lambda n: _percent(_of_square(part, speeds, n)))
    for task in ("linear products", "linear and chunk products"):
        if speeds.entry("ours", task, lengths[0]):
            row(f"the model's {task} alone", lambda n, t=task: _rate(speeds.rate("ours", t, n)))
            row("share of it that our forward reaches", lambda n, t=task: _percent(speeds.over_forward("ours", t, n)))
    for task in ("torch exp2", "polynomial exp2"):
        row(f"{task}, in the cache", lambda n, t=task: _giga(speeds.rate("ours", t, n), "G/s"))
    row("our bare scan, updates of a state's entry", lambda n: _giga(speeds.rate("ours", "bare scan", n), "G/s"))
    if arch == "mamba":  # an exp for each update; Mamba-2 has one for a whole head
        row("share of the best exp rate", lambda n: _percent(_of_exp(speeds, n)))
    shares = [c / s for e in part["entries"] for c, s in zip(e["cpu_seconds"], e["seconds"], strict=True)]
    had = f"median {statistics.median(shares):.0%}, lowest {min(shares):.0%}"
    calls = part["first_call"]
    lines += [
        "",
        f"First call of a process: {calls['cached_s']:.1f} s; the first ever, which compiles: {calls['ever_s']:.1f} s. "
        f"Share of a run's time that it had a processor: {had}.",
    ]
    return lines


def _of_square(part, speeds, length):
    rate, square = speeds.rate("ours", "forward", length), speeds.rate("ours", "square product", length)
    return rate * part["linear_flop_per_token"] / square if rate and square else None


def _of_exp(speeds, length):
    scan, exp = speeds.rate("ours", "bare scan", length), best_exp(speeds, length)
    return scan / exp if scan and exp else None


def _giga(value, unit):
    return value and f"{value / 1e9:.1f} {unit}"


def _rate(value):
    return value and f"{value:,.0f} tokens/s"


def _percent(value):
    return value and f"{value:.0%}"


def _or_dash(text):
    return text or "-"


def _number(b):
    if b.value is None:
        return "-"
    text = f"{b.value:.1e}" if b.wanted < 1e-3 else f"{b.value:.2f}" if b.wanted < 20 else f"{b.value:.0f}"
    return f"{text} {b.unit}".rstrip()
