// The likeliest tokens without most of the head: a rounded head says which panels cannot hold them.
//
// The head is the largest matrix of a small model, and a greedy step wants a single output of it. An int8 copy takes half
// as long, and how far it may be off is known. With w and x the true weights and input, w' and x' the rounded ones:
//
//     |w.x - w'.x'|  =  |(w - w').x + w'.(x - x')|  <=  |w - w'| |x| + |w'| |x - x'|
//
// (Cauchy and Schwarz). So each output has an upper and a lower bound, and a panel whose upper bounds stay below the
// highest lower bound is out. Those that are left, usually one or two, are computed from the true weights, in the same
// order of operations as ever: the answer is the same to the last bit.
#pragma once

#include "cache.h"
#include "linear.h"

struct Screen {
    Linear rounded;      // the head in int8
    const float* error;  // [outputs] |w - w'|; huge for outputs that were added: nobody may rely on them. Null: no screen
    const float* size;   // [outputs] |w'|
};

// What the bounds need to know of a row: |x|, and |x - x'| with an allowance for sums in fp32.
struct RowBounds {
    float size, error;
};

static RowBounds row_bounds(const bf16* x, const uint8_t* rounded, float scale, int width) {
    Floats squares = Floats{}, errors = Floats{};
    for (int i = 0; i < width; i += LANES) {
        Floats value = read_bf16(x + i);
        Floats error = value - (__builtin_convertvector(read<Bytes>(rounded + i), Floats) - 128.0f) * scale;
        squares += value * value;
        errors += error * error;
    }
    float size = sqrtf(sum(squares)), allowance = width * 1.2e-7f;
    return {size, sqrtf(sum(errors)) + allowance * size};
}

struct Bounds {  // the epilogue of the rounded head
    const Screen& screen;
    const RowBounds* of;  // [rows]
    float* upper;         // [panels][rows]
    int rows;
    float* floor;  // [rows] of this thread: the highest lower bound
    FORCED void operator()(int row, int panel, const Floats* y) const {
        Floats above = all(-INFINITY), below = all(-INFINITY);
        UNROLL for (int v = 0; v < VECTORS; v++) {
            int output = panel * PANEL + v * LANES;
            Floats off = read<Floats>(screen.error + output) * of[row].size + read<Floats>(screen.size + output) * of[row].error;
            above = larger(above, y[v] + off);
            below = larger(below, y[v] - off);
        }
        upper[int64_t(panel) * rows + row] = largest(above);
        if (any_reaches(below, floor[row])) floor[row] = largest(below);
    }
};
