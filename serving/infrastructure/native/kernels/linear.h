// Matrix products of a few rows with packed weights: y = x W^T + bias, the dearest part of a step.
//
// Weights are packed in panels of 32 outputs. A panel holds its inputs in groups of four bytes (two bf16 or four int8):
//
//     panel 0: [ inputs 0,1 of outputs 0..31 ][ inputs 2,3 of outputs 0..31 ] ...      128 bytes each
//
// so that one register load brings the same inputs of LANES outputs, and the values to multiply with are four bytes that
// all lanes share. A tile keeps ROWS x 32 sums in registers and reads the panel once: memory is read once a step, however
// many rows there are. What is done with the sums, an `Epilogue`, happens before they leave the registers.
#pragma once

#include "parallel.h"
#include "simd.h"

constexpr int PANEL = 32;
constexpr int VECTORS = PANEL / LANES;
constexpr int GROUP_BYTES = 128;  // of weights: PANEL outputs x 4 bytes
#ifdef __AVX512F__
constexpr int MOST_ROWS = 12;  // 24 of 32 registers hold sums
#else
constexpr int MOST_ROWS = 3;  // 12 of 16
#endif
constexpr int FEW_ROWS = 4;              // up to here memory is the limit, and what helps is to fetch well ahead
constexpr int AHEAD_BYTES = 4096;        // how far
constexpr int64_t INPUT_BYTES = 160000;  // rows of input that are used against one panel after another: they stay in L2

struct Linear {
    const char* weights;     // [outputs / 32][groups][32][4 bytes]
    const float* bias;       // [outputs], or null
    const float* scales;     // int8: [outputs], what one unit of a weight is worth; null: weights are bf16
    const int32_t* offsets;  // int8: [outputs], 128 x the sum of an output's weights, for inputs are stored as x + 128
    int32_t groups;          // inputs / 2 (bf16) or / 4 (int8)
    int32_t outputs;         // a multiple of 32; those that were added have weights of zero
};

// Rows to multiply: `stride` bytes apart; int8 rows have a scale each.
struct Input {
    const char* rows;
    int64_t stride;
    const float* scales;
};

struct Bf16 {
    typedef Floats Sum;
    INLINE Sum add(Sum sum, Ints weights, int32_t two) { return dot_bf16(sum, weights, two); }
    INLINE Floats finish(Sum sum, const Linear&, float, int) { return sum; }
};

struct Int8 {
    typedef Ints Sum;
    INLINE Sum add(Sum sum, Ints weights, int32_t four) { return dot_int8(sum, weights, four); }
    INLINE Floats finish(Sum sum, const Linear& linear, float scale, int output) {
        Ints exact = sum - read<Ints>(linear.offsets + output);
        return __builtin_convertvector(exact, Floats) * scale * read<Floats>(linear.scales + output);
    }
};

template <class Dot, int ROWS, class Epilogue>
static __attribute__((noinline)) void tile(const Linear& linear, const Input& input, int row, int panel,
                                           const char* next_panel, const Epilogue& epilogue) {
    const char* weights = linear.weights + int64_t(panel) * linear.groups * GROUP_BYTES;
    const char* rows = input.rows + row * input.stride;
    typename Dot::Sum sums[ROWS][VECTORS];
    UNROLL for (int r = 0; r < ROWS; r++)
        UNROLL for (int v = 0; v < VECTORS; v++) sums[r][v] = typename Dot::Sum{};
    for (int group = 0; group < linear.groups; group++) {
        const char* here = weights + int64_t(group) * GROUP_BYTES;
        Ints w[VECTORS];
        UNROLL for (int v = 0; v < VECTORS; v++) w[v] = read<Ints>(here + v * sizeof(Ints));
        if (ROWS <= FEW_ROWS) {
            _mm_prefetch(here + AHEAD_BYTES, _MM_HINT_T0);
            _mm_prefetch(here + AHEAD_BYTES + 64, _MM_HINT_T0);
        } else if (next_panel) {
            _mm_prefetch(next_panel + int64_t(group) * GROUP_BYTES, _MM_HINT_T1);
            _mm_prefetch(next_panel + int64_t(group) * GROUP_BYTES + 64, _MM_HINT_T1);
        }
        UNROLL for (int r = 0; r < ROWS; r++) {
            int32_t values = read<int32_t>(rows + r * input.stride + 4 * int64_t(group));
            UNROLL for (int v = 0; v < VECTORS; v++) sums[r][v] = Dot::add(sums[r][v], w[v], values);
        }
    }
    UNROLL for (int r = 0; r < ROWS; r++) {
        Floats y[VECTORS];
        float scale = input.scales ? input.scales[row + r] : 1.0f;
        UNROLL for (int v = 0; v < VECTORS; v++) {
            int output = panel * PANEL + v * LANES;
            y[v] = Dot::finish(sums[r][v], linear, scale, output);
            if (linear.bias) y[v] += read<Floats>(linear.bias + output);
        }
        epilogue(row + r, panel, y);
    }
}

template <class Dot, int ROWS, class Epilogue>
INLINE void tile_of(int rows, const Linear& linear, const Input& input, int row, int panel, const char* next_panel,
                    const Epilogue& epilogue) {
    if (rows == ROWS)
        tile<Dot, ROWS>(linear, input, row, panel, next_panel, epilogue);
    else if constexpr (ROWS > 1)
        tile_of<Dot, ROWS - 1>(rows, linear, input, row, panel, next_panel, epilogue);
}

// Rows [first, last) against one panel, in tiles of about equal height.
template <class Dot, class Epilogue>
static void panel_rows(const Linear& linear, const Input& input, int first, int last, int panel, const Epilogue& epilogue) {
    const char* next_panel = linear.weights + int64_t(panel + 1) * linear.groups * GROUP_BYTES;
    if (panel + 1 == linear.outputs / PANEL) next_panel = nullptr;
    for (int row = first; row < last;) {
        int tiles = (last - row + MOST_ROWS - 1) / MOST_ROWS;
        int height = (last - row + tiles - 1) / tiles;
        tile_of<Dot, MOST_ROWS>(height, linear, input, row, panel, next_panel, epilogue);
        row += height;
        next_panel = nullptr;  // fetched once
    }
}

template <class Dot, class Epilogue>
static void multiply_as(Team& team, int thread, const Linear& linear, const Input& input, int rows,
                        const Epilogue& epilogue) {
    int panels = linear.outputs / PANEL;
    int chunk = panels >= 256 ? 8 : panels >= 64 ? 2 : 1;
    int at_once = INPUT_BYTES / (4 * int64_t(linear.groups)) / MOST_ROWS * MOST_ROWS;
    if (at_once < MOST_ROWS) at_once = MOST_ROWS;
    if (rows < 3 * at_once / 2) at_once = rows;
    for (Piece piece; team.take(thread, panels, chunk, piece);) {
        for (int first = 0; first < rows; first += at_once) {
            int last = first + at_once < rows ? first + at_once : rows;
            for (int panel = piece.first; panel < piece.last; panel++)
                panel_rows<Dot>(linear, input, first, last, panel, epilogue);
        }
    }
}

// All threads of the team together; the caller lets them meet afterwards.
template <class Epilogue>
static void multiply(Team& team, int thread, const Linear& linear, const Input& input, int rows,
                     const Epilogue& epilogue) {
    if (linear.scales)
        multiply_as<Int8>(team, thread, linear, input, rows, epilogue);
    else
        multiply_as<Bf16>(team, thread, linear, input, rows, epilogue);
}

// -- What happens to the sums of one row and panel ------------------------------------------------------------------

struct Store {  // as bf16
    bf16* out;
    int64_t stride;
    FORCED void operator()(int row, int panel, const Floats* y) const {
        UNROLL for (int v = 0; v < VECTORS; v++) write_bf16(out + row * stride + panel * PANEL + v * LANES, y[v]);
    }
};

struct AddToResidual {
    float* residual;
    int64_t stride;
    float scale;
    FORCED void operator()(int row, int panel, const Floats* y) const {
        float* to = residual + row * stride + panel * PANEL;
        UNROLL for (int v = 0; v < VECTORS; v++)
            write(to + v * LANES, read<Floats>(to + v * LANES) + y[v] * scale);
    }
};

struct Gate {  // SwiGLU: a panel holds 16 outputs of the gate and the 16 of "up" that they belong to
    bf16* out;
    int64_t stride;
    FORCED void operator()(int row, int panel, const Floats* y) const {
        UNROLL for (int v = 0; v < VECTORS / 2; v++) {
            Floats gate = y[v], up = y[v + VECTORS / 2];
            Floats silu = gate / (1.0f + exponential(-gate));
            write_bf16(out + row * stride + panel * (PANEL / 2) + v * LANES, silu * up);
        }
    }
};

struct Head {  // logits as fp32 if somebody wants them, and the likeliest token in any case
    float* logits;  // or null
    int64_t stride;
    int vocabulary;
    float scale;
    float* best;  // [rows] of this thread
    int32_t* best_at;
    FORCED void operator()(int row, int panel, const Floats* y) const {
        float scaled[PANEL];
        UNROLL for (int v = 0; v < VECTORS; v++) write(scaled + v * LANES, y[v] * scale);
        if (logits)
            UNROLL for (int v = 0; v < VECTORS; v++)
                write(logits + row * stride + panel * PANEL + v * LANES, read<Floats>(scaled + v * LANES));
        int real = vocabulary - panel * PANEL;
        for (int i = real; i < PANEL; i++) scaled[i] = -3.4e38f;  // added outputs, in the last panel only
        Floats most = read<Floats>(scaled);
        UNROLL for (int v = 1; v < VECTORS; v++) most = larger(most, read<Floats>(scaled + v * LANES));
        if (!any_reaches(most, best[row])) return;
        for (int i = 0; i < PANEL; i++) {
            int at = panel * PANEL + i;
            bool earlier = scaled[i] == best[row] && at < best_at[row];  // of equals the first, as in torch
            if (scaled[i] > best[row] || earlier) best[row] = scaled[i], best_at[row] = at;
        }
    }
};
