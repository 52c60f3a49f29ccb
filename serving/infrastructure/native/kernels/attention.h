// Attention over keys and values in blocks of 32 tokens that lie anywhere in the pool.
//
// One kernel for everything: a row is one query head of one token, and whether its neighbours are the other heads of a
// group (decode) or later tokens of the prompt (prefill) makes no difference. Rows that look at the same keys are computed
// together, so a key is read once for all of them. Each row sees positions [first, last).
//
//     keys of a block     [D / 2][32 tokens][2]     two dimensions of LANES tokens in a register: a score per lane
//     values of a block   [16][D][2 tokens]         LANES dimensions of two tokens in a register: an output per lane
//
// Softmax is computed online (Milakov and Gimelshein, 2018) in spans of 256 positions counted from 0, so a row's result
// does not depend on the rows that it is computed with.
#pragma once

#include <cmath>

#include "simd.h"

constexpr int BLOCK = 32;
constexpr int SPAN = 256;
constexpr int MOST_HEAD_DIM = 256;
constexpr int TOKEN_VECTORS = BLOCK / LANES;
constexpr int SLICE = 4;  // registers of outputs that are summed at a time
constexpr float HIDDEN = -1e30f;
#ifdef __AVX512F__
constexpr int MOST_ATTENDING = 6;  // rows: 6 x 4 of 32 registers hold sums
#else
constexpr int MOST_ATTENDING = 2;
#endif

struct AttentionRow {
    const bf16* query;  // [D]
    bf16* out;          // [D]
    int first, last;    // positions that it sees
};

// One key and value head of one sequence.
struct PagedHead {
    const bf16* keys;      // of block 0
    const bf16* values;
    int64_t block_stride;  // from block to block, in numbers
    const int32_t* table;  // which block holds positions [32 i, 32 i + 32)

    const bf16* key_block(int i) const { return keys + table[i] * block_stride; }
    const bf16* value_block(int i) const { return values + table[i] * block_stride; }
};

INLINE Ints lane_numbers() {
    Ints n;
    for (int i = 0; i < LANES; i++) n[i] = i;
    return n;
}

INLINE void prefetch(const void* from, int bytes) {
    for (int at = 0; at < bytes; at += 64) _mm_prefetch((const char*)from + at, _MM_HINT_T0);
}

// Scores of the 32 tokens of a block, which begins at position `base`; what a row does not see is HIDDEN.
template <int ROWS>
INLINE void score_block(const AttentionRow* rows, const bf16* keys, const bf16* next, int head_dim, float scale, int base,
                        float (*scores)[SPAN], Floats* highest) {
    Floats sums[ROWS][TOKEN_VECTORS];
    UNROLL for (int r = 0; r < ROWS; r++)
        UNROLL for (int v = 0; v < TOKEN_VECTORS; v++) sums[r][v] = Floats{};
    for (int pair = 0; pair < head_dim / 2; pair++) {
        Ints k[TOKEN_VECTORS];
        UNROLL for (int v = 0; v < TOKEN_VECTORS; v++) k[v] = read<Ints>(keys + pair * 2 * BLOCK + v * 2 * LANES);
        prefetch(next + pair * 2 * BLOCK, 4 * BLOCK);
        UNROLL for (int r = 0; r < ROWS; r++) {
            int32_t q = read<int32_t>(rows[r].query + 2 * pair);
            UNROLL for (int v = 0; v < TOKEN_VECTORS; v++) sums[r][v] = dot_bf16(sums[r][v], k[v], q);
        }
    }
    UNROLL for (int r = 0; r < ROWS; r++)
        UNROLL for (int v = 0; v < TOKEN_VECTORS; v++) {
            Floats score = sums[r][v] * scale;
            if (base < rows[r].first || base + BLOCK > rows[r].last) {
                Ints position = lane_numbers() + (base + v * LANES);
                score = (position >= rows[r].first) & (position < rows[r].last) ? score : all(HIDDEN);
            }
            write(scores[r] + base % SPAN + v * LANES, score);
            highest[r] = larger(highest[r], score);
        }
}

// sums[r] += weights[r] . values for `WIDTH` registers of dimensions from `dim` on, over the positions [from, to).
template <int ROWS, int WIDTH>
static __attribute__((noinline)) void mix(const PagedHead& head, int from, int to, int head_dim, int dim,
                                          const bf16 (*weights)[SPAN], float (*sums)[MOST_HEAD_DIM]) {
    Floats acc[ROWS][WIDTH];
    UNROLL for (int r = 0; r < ROWS; r++)
        UNROLL for (int w = 0; w < WIDTH; w++) acc[r][w] = read<Floats>(sums[r] + dim + w * LANES);
    for (int base = from / BLOCK * BLOCK; base < to; base += BLOCK) {
        const bf16* values = head.value_block(base / BLOCK) + 2 * dim;
        const bf16* next = base + BLOCK < to ? head.value_block(base / BLOCK + 1) + 2 * dim : values;
        int pairs = (to - base + 1) / 2 < BLOCK / 2 ? (to - base + 1) / 2 : BLOCK / 2;
        for (int pair = 0; pair < pairs; pair++) {
            const bf16* here = values + int64_t(pair) * 2 * head_dim;
            prefetch(next + int64_t(pair) * 2 * head_dim, WIDTH * LANES * 4);
            Ints v[WIDTH];
            UNROLL for (int w = 0; w < WIDTH; w++) v[w] = read<Ints>(here + 2 * w * LANES);
            UNROLL for (int r = 0; r < ROWS; r++) {
                int32_t two = read<int32_t>(weights[r] + base % SPAN + 2 * pair);
                UNROLL for (int w = 0; w < WIDTH; w++) acc[r][w] = dot_bf16(acc[r][w], v[w], two);
            }
        }
    }
    UNROLL for (int r = 0; r < ROWS; r++)
        UNROLL for (int w = 0; w < WIDTH; w++) write(sums[r] + dim + w * LANES, acc[r][w]);
}

template <int ROWS>
static void mix_all(const PagedHead& head, int from, int to, int head_dim, const bf16 (*weights)[SPAN],
                    float (*sums)[MOST_HEAD_DIM]) {
    int dim = 0;
    for (; dim + SLICE * LANES <= head_dim; dim += SLICE * LANES)
        mix<ROWS, SLICE>(head, from, to, head_dim, dim, weights, sums);
    for (; dim + LANES <= head_dim; dim += LANES) mix<ROWS, 1>(head, from, to, head_dim, dim, weights, sums);
}

template <int ROWS>
static __attribute__((noinline)) void attend_rows(const AttentionRow* rows, const PagedHead& head, int head_dim, float scale) {
    alignas(64) float scores[ROWS][SPAN];
    alignas(64) bf16 weights[ROWS][SPAN];
    alignas(64) float sums[ROWS][MOST_HEAD_DIM];
    float highest[ROWS], total[ROWS];
    int first = rows[0].first, last = rows[0].last;
    for (int r = 0; r < ROWS; r++) {
        highest[r] = HIDDEN;
        total[r] = 0;
        memset(sums[r], 0, sizeof(float) * head_dim);
        first = rows[r].first < first ? rows[r].first : first;
        last = rows[r].last > last ? rows[r].last : last;
    }
    for (int span = first / SPAN * SPAN; span < last; span += SPAN) {
        int from = first > span ? first : span, to = last < span + SPAN ? last : span + SPAN;
        int begin = from / BLOCK * BLOCK, end = (to + BLOCK - 1) / BLOCK * BLOCK;  // positions with scores
        Floats top[ROWS];
        for (int r = 0; r < ROWS; r++) top[r] = all(HIDDEN);
        for (int base = begin; base < end; base += BLOCK) {
            const bf16* next = base + BLOCK < end ? head.key_block(base / BLOCK + 1) : head.value_block(begin / BLOCK);
            score_block<ROWS>(rows, head.key_block(base / BLOCK), next, head_dim, scale, base, scores, top);
        }
        for (int r = 0; r < ROWS; r++) {
            float now = largest(top[r]);
            now = now > highest[r] ? now : highest[r];
            float shrink = highest[r] == HIDDEN ? 0 : expf(highest[r] - now);
            highest[r] = now;
            Floats added = Floats{};
            for (int i = begin % SPAN; i < end - span; i += LANES) {
                Floats score = read<Floats>(scores[r] + i);
                Floats weight = score > HIDDEN / 2 ? exponential(score - now) : all(0);
                added += weight;
                write_bf16(weights[r] + i, weight);
            }
            total[r] = total[r] * shrink + sum(added);
            if (shrink != 1.0f)
                for (int d = 0; d < head_dim; d++) sums[r][d] *= shrink;
        }
        mix_all<ROWS>(head, from, to, head_dim, weights, sums);
    }
    for (int r = 0; r < ROWS; r++) {
        Floats scaling = all(1.0f / total[r]);
        for (int d = 0; d < head_dim; d += LANES) write_bf16(rows[r].out + d, read<Floats>(sums[r] + d) * scaling);
    }
}

template <int ROWS = MOST_ATTENDING>
static void attend(int count, const AttentionRow* rows, const PagedHead& head, int head_dim, float scale) {
    if (count == ROWS)
        attend_rows<ROWS>(rows, head, head_dim, scale);
    else if constexpr (ROWS > 1)
        attend<ROWS - 1>(count, rows, head, head_dim, scale);
}
