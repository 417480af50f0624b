"""Two loops in LLVM's own vector types, for the scalar-identity scan: what a state gives and what it takes in one pass.

numba's loops cannot keep eight running sums in registers; these do. A vector has 16 numbers: one register on AVX-512,
two on AVX2, four on 128-bit machines, without a change here. Addresses are bytes, matrices lie row by row, float32.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 16
"""Numbers of a vector."""
CHUNK = 8
"""Tokens of a pass over the state: eight sums and eight inputs fit the registers of AVX-512 beside the state."""

_FLOAT, _INT, _INDEX = ir.FloatType(), ir.IntType(64), ir.IntType(32)
_VECTOR = ir.VectorType(_FLOAT, LANES)
_ZERO = ir.Constant(_VECTOR, [0.0] * LANES)
_FAST = ("reassoc", "contract", "nsz")


def _int(value: int) -> ir.Constant:
    return ir.Constant(_INT, value)


def _everywhere(builder: Any, scalar: Any) -> Any:
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(_INDEX, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_INDEX, LANES), [0] * LANES))


class _Loop:
    """A counted loop from 0, at least one round, with values that go from round to round."""

    def __init__(self, builder: Any, stop: Any, start: list[Any]) -> None:
        self.builder, self.stop, before = builder, stop, builder.block
        self.body, self.after = builder.append_basic_block(), builder.append_basic_block()
        builder.branch(self.body)
        builder.position_at_end(self.body)
        self.index = builder.phi(_INT)
        self.index.add_incoming(_int(0), before)
        self.values = [builder.phi(value.type) for value in start]
        for phi, value in zip(self.values, start, strict=True):
            phi.add_incoming(value, before)

    def close(self, values: list[Any]) -> list[Any]:
        following = self.builder.add(self.index, _int(1))
        self.index.add_incoming(following, self.builder.block)
        for phi, value in zip(self.values, values, strict=True):
            phi.add_incoming(value, self.builder.block)
        self.builder.cbranch(self.builder.icmp_signed("<", following, self.stop), self.body, self.after)
        self.builder.position_at_end(self.after)
        return values


class _Memory:
    """Loads and stores of numbers and vectors at an address and an offset in numbers."""

    def __init__(self, builder: Any, address: Any) -> None:
        self.builder, self.start = builder, builder.inttoptr(address, _FLOAT.as_pointer())

    def number(self, offset: Any) -> Any:
        return self.builder.load(self.builder.gep(self.start, [offset]))

    def _vector_at(self, offset: Any, kind: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(self.start, [offset]), kind.as_pointer())

    def vector(self, offset: Any) -> Any:
        return self.builder.load(self._vector_at(offset, _VECTOR), align=4)

    def store(self, vector: Any, offset: Any) -> None:
        self.builder.store(vector, self._vector_at(offset, vector.type), align=4)


def _loads(builder: Any, memory: _Memory, d_state: Any, row: int, n: Any) -> Any:
    return _everywhere(builder, memory.number(builder.add(builder.mul(d_state, _int(row)), n)))


def _after(builder: Any, keep: Any, before: Any, write: _Memory, d_state: Any, n: Any, inputs: list[Any]) -> Any:
    """Return keep before + sum_j write[j, n] x_j."""
    products = [builder.fmul(_loads(builder, write, d_state, j, n), inputs[j], flags=_FAST) for j in range(CHUNK)]
    halves = [builder.fmul(keep, before, flags=_FAST), products.pop()]  # two chains of additions, each half as long
    for j, product in enumerate(products):
        halves[j % 2] = builder.fadd(halves[j % 2], product, flags=_FAST)
    return builder.fadd(*halves, flags=_FAST)


@intrinsic
def pass_state(typing, h, after, d_state, keep, read, write, x, y, row):  # type: ignore[no-untyped-def]
    """Read and write 16 channels of a state h, (d_state, 16), in one pass.

    y_i = sum_n read[i, n] h[n] and after[n] = keep h[n] + sum_j write[j, n] x_j; ``read`` and ``write`` are
    (CHUNK, d_state), x and y rows of 16 channels that lie ``row`` numbers apart, ``after`` may be h.
    """
    signature = types.void(*[types.intp] * 3, types.float32, *[types.intp] * 5)

    def codegen(context, b, signature, args):  # type: ignore[no-untyped-def]
        h, after, d_state, keep, read, write, x, y, row = args
        h, after, read, write, x, y = (_Memory(b, address) for address in (h, after, read, write, x, y))
        rows = [b.mul(row, _int(i)) for i in range(CHUNK)]
        inputs, keep = [x.vector(r) for r in rows], _everywhere(b, keep)
        loop = _Loop(b, d_state, [_ZERO] * CHUNK)
        place = b.mul(loop.index, _int(LANES))
        before = h.vector(place)
        given = [b.fmul(_loads(b, read, d_state, i, loop.index), before, flags=_FAST) for i in range(CHUNK)]
        sums = [b.fadd(so_far, each, flags=_FAST) for so_far, each in zip(loop.values, given, strict=True)]
        after.store(_after(b, keep, before, write, d_state, loop.index, inputs), place)
        loop.close(sums)
        for r, total in zip(rows, sums, strict=True):
            y.store(total, r)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def pass_slow_state(typing, h, low, d_state, drop, read, write, x, y, row):  # type: ignore[no-untyped-def]
    """Do what ``pass_state`` does to a state that hardly decays, and keep what rounding takes from it.

    ``drop`` is 1 - keep, which has digits where keep has none left, and h + low is the state: what is too small to be
    added to h gathers in low (Kahan), where otherwise a million tokens would each leave an error behind.
    """
    signature = types.void(*[types.intp] * 3, types.float32, *[types.intp] * 5)

    def codegen(context, b, signature, args):  # type: ignore[no-untyped-def]
        h, low, d_state, drop, read, write, x, y, row = args
        h, low, read, write, x, y = (_Memory(b, address) for address in (h, low, read, write, x, y))
        rows = [b.mul(row, _int(i)) for i in range(CHUNK)]
        inputs, taken = [x.vector(r) for r in rows], _everywhere(b, b.fneg(drop))
        loop = _Loop(b, d_state, [_ZERO] * CHUNK)
        place = b.mul(loop.index, _int(LANES))
        before = h.vector(place)
        given = [b.fmul(_loads(b, read, d_state, i, loop.index), before, flags=_FAST) for i in range(CHUNK)]
        sums = [b.fadd(so_far, each, flags=_FAST) for so_far, each in zip(loop.values, given, strict=True)]
        change = b.fadd(_after(b, taken, before, write, d_state, loop.index, inputs), low.vector(place))
        after = b.fadd(before, change)  # in this order: no flags
        h.store(after, place)
        low.store(b.fsub(change, b.fsub(after, before)), place)
        loop.close(sums)
        for r, total in zip(rows, sums, strict=True):
            y.store(total, r)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def write_state(typing, h, after, d_state, keep, write, x, row):  # type: ignore[no-untyped-def]
    """Do what ``pass_state`` does to the state, without reading it out."""
    signature = types.void(*[types.intp] * 3, types.float32, *[types.intp] * 3)

    def codegen(context, b, signature, args):  # type: ignore[no-untyped-def]
        h, after, d_state, keep, write, x, row = args
        h, after, write, x = (_Memory(b, address) for address in (h, after, write, x))
        inputs, keep = [x.vector(b.mul(row, _int(i))) for i in range(CHUNK)], _everywhere(b, keep)
        loop = _Loop(b, d_state, [])
        place = b.mul(loop.index, _int(LANES))
        after.store(_after(b, keep, h.vector(place), write, d_state, loop.index, inputs), place)
        loop.close([])
        return context.get_dummy_value()

    return signature, codegen


def _folded(builder: Any, first: Any, second: Any, lower: list[int], width: int) -> Any:
    """Add the lanes ``lower`` of two vectors to those that lie ``width`` further."""
    masks = [ir.Constant(ir.VectorType(_INDEX, len(lower)), [lane + shift for lane in lower]) for shift in (0, width)]
    return builder.fadd(*(builder.shuffle_vector(first, second, mask) for mask in masks), flags=_FAST)


def _lane_sums(builder: Any, vectors: list[Any]) -> Any:
    """Add up the lanes of CHUNK vectors, all at once, into a vector of CHUNK sums."""
    width = LANES
    while len(vectors) > 1:  # two vectors become one: half of it the lanes of the first, folded once more
        width //= 2
        lower = [start + lane for start in range(0, 2 * LANES, 2 * width) for lane in range(width)]
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        vectors = [_folded(builder, first, second, lower, width) for first, second in pairs]
    return _folded(builder, vectors[0], vectors[0], list(range(0, LANES, 2)), 1)  # two lanes were left of each


@intrinsic
def contract_channels(typing, h, d_state, columns, x, row, out):  # type: ignore[no-untyped-def]
    """Sum x_i h[n] over all channels of a state h, (columns, d_state, 16), into out, (d_state, CHUNK).

    x are rows of columns * 16 channels that lie ``row`` numbers apart.
    """
    signature = types.void(*[types.intp] * 6)

    def codegen(context, b, signature, args):  # type: ignore[no-untyped-def]
        h, d_state, columns, x, row, out = args
        h, x, out = (_Memory(b, address) for address in (h, x, out))
        rows = [b.mul(row, _int(i)) for i in range(CHUNK)]
        column = b.mul(d_state, _int(LANES))
        states = _Loop(b, d_state, [])
        place = b.mul(states.index, _int(LANES))
        channels = _Loop(b, columns, [_ZERO] * CHUNK)
        first = b.mul(channels.index, _int(LANES))
        vector = h.vector(b.add(b.mul(channels.index, column), place))
        products = [b.fmul(x.vector(b.add(r, first)), vector, flags=_FAST) for r in rows]
        sums = channels.close([
            b.fadd(before, product, flags=_FAST) for before, product in zip(channels.values, products, strict=True)
        ])
        out.store(_lane_sums(b, sums), b.mul(states.index, _int(CHUNK)))
        states.close([])
        return context.get_dummy_value()

    return signature, codegen
