"""The speed and memory of every contestant, at every length."""

from tests.benchmarks.measure import Worker, take_turns
from tests.benchmarks.peers import AbsentError, peers_of

LENGTHS = (2048, 8192, 32768)
ROUNDS = {512: 3, 2048: 5, 8192: 5, 32768: 3}
GRADIENT_LENGTH = 512
"""Tokens at which the peers' gradients are compared: the backward pass of a loop that slices one large tensor takes
time that grows with the square of the length (minutes at 2,048 tokens)."""
CHECK_TOKENS = 2304  # more than a block that a peer is fed
CLOSE = 1e-3

OURS = ("observed", "scaled", "decays", "norms", "gradient", "linear products")
MACHINE = ("bare scan", "square product", "torch exp2", "polynomial exp2")


def wanted(arch, length, peers):
    """Return the (contestant, task) pairs of one length."""
    if length == GRADIENT_LENGTH:
        whole = [peer for peer in peers if not peer.endswith("in blocks")]
        return [("ours", "gradient"), *((peer, "gradient") for peer in whole)]
    ours = [*OURS, *(["linear and chunk products"] if arch == "mamba2" else []), *MACHINE]
    return [*(("ours", task) for task in ours), *((peer, "forward") for peer in peers)]


def agreement(arch, folder):
    """Return every peer's largest difference of logits to ours over the largest logit, or why it is absent."""

    def logits(contestant):
        with Worker(contestant, arch, CHECK_TOKENS, folder) as worker:
            return worker.run("logits")["logits"]

    ours, found = logits("ours"), {}
    largest = max(abs(v) for row in ours for v in row)
    for peer in peers_of(arch):
        try:
            theirs = logits(peer)
        except AbsentError as why:
            found[peer] = str(why)
            continue
        pairs = zip(ours, theirs, strict=True)
        found[peer] = max(abs(a - b) for one, other in pairs for a, b in zip(one, other, strict=True)) / largest
    return found


def measure(arch, agree, folder, tell, lengths=LENGTHS, rounds=None):
    """Measure all lengths of one architecture, peers that agree with us only.

    Args:
        arch: ``mamba`` or ``mamba2``.
        agree: what ``agreement`` returned.
        folder: folder with the packages of the peers.
        tell: function that shows a line of progress.
        lengths: tokens, ascending.
        rounds: runs of each entry; by length if left out.

    Returns:
        Entries as plain values.
    """
    peers = [name for name, difference in agree.items() if not isinstance(difference, str) and difference <= CLOSE]
    entries, expected = [], {}
    for length in (GRADIENT_LENGTH, *lengths):
        pairs = wanted(arch, length, peers)
        done = take_turns(arch, length, pairs, rounds or ROUNDS.get(length, 3), folder, expected, tell)
        entries += done
        longer = next((n for n in lengths if n > length), length)
        for e in done:
            if e.growth_mb is not None:
                expected[e.contestant, e.task] = e.growth_mb * longer / length
    return [entry.to_dict() for entry in entries]


def first_call_ever(arch, folder, empty):
    """Return the seconds that a first forward of 128 tokens takes where nothing was compiled before."""
    with Worker("ours", arch, 128, folder, environment={"NUMBA_CACHE_DIR": str(empty)}) as worker:
        return worker.run("forward")["first_call_s"]


def two_threads(arch, folder, rounds, length=8192):
    """Return, for one thread and for two, the seconds of our forward and of the machine's product, in turns."""
    found = {task: {1: [], 2: []} for task in ("forward", "square product", "linear products")}
    workers = {}
    try:
        for threads in (1, 2):
            workers[threads] = Worker("ours", arch, length, folder, threads=threads)
        for _ in range(rounds):
            for task, times in found.items():
                for threads, worker in workers.items():
                    times[threads].append(worker.run(task)["seconds"])
    finally:
        for worker in workers.values():
            worker.close()
    return found


SHORT_TOKENS, LONG_TOKENS, LONG_PROCESSES = 65_536, 1_048_576, 3


def long_memory(arch, folder, tell):
    """Return what fresh processes that measure state norms over a million tokens have grown by, part of the way and
    at the end; two runs of one length would differ by more than the length does, since heaps fragment as they like."""
    answers = []
    for _ in range(LONG_PROCESSES):
        with Worker("ours", arch, LONG_TOKENS, folder) as worker:
            answers.append(worker.run("long norms"))
        early, late = answers[-1]["peak_on_the_way_mb"], answers[-1]["growth_mb"]
        tell(f"{arch} {LONG_TOKENS:,} norms: {early:.1f}, then {late:.1f} MB, {answers[-1]['seconds']:.0f} s")
    return {key: [answer[key] for answer in answers] for key in ("seconds", "peak_on_the_way_mb", "growth_mb")}
