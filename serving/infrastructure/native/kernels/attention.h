// Attention over keys and values in a paged cache.
//
// One kernel for everything: a row is one query head of one token, and whether its neighbours are the other heads of a
// group (decode) or later tokens of the prompt (prefill) makes no difference. Rows that look at the same keys are computed
// together, so a key is read once for all of them. Each row sees positions [first, last).
//
// Softmax is computed online (Milakov and Gimelshein, 2018) in spans of 256 positions counted from 0, so a row's result
// does not depend on the rows that it is computed with.
#pragma once

#include "cache.h"

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

INLINE Ints lane_numbers() {
    Ints n;
    for (int i = 0; i < LANES; i++) n[i] = i;
    return n;
}

// Scores of the 32 tokens of a block, which begins at position `base`; what a row does not see is HIDDEN.
template <class Cache, int ROWS>
INLINE void score_block(const AttentionRow* rows, const typename Cache::Query* queries, const char* keys, const char* next,
                        int head_dim, float scale, int base, float (*scores)[SPAN], Floats* highest) {
    Floats sums[ROWS][TOKEN_VECTORS];
    Cache::template scores<ROWS>(queries, keys, next, head_dim, sums);
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

template <class Cache, int ROWS>
static void mix_all(const PagedHead& head, int from, int to, int head_dim, const typename Cache::Weights* weights,
                    float (*sums)[MOST_HEAD_DIM]) {
    constexpr int WIDTH = Cache::SLICE;
    int dim = 0;
    for (; dim + WIDTH * LANES <= head_dim; dim += WIDTH * LANES)
        Cache::template mix<ROWS, WIDTH>(head, from, to, head_dim, dim, weights, sums);
    for (; dim + LANES <= head_dim; dim += LANES)
        Cache::template mix<ROWS, 1>(head, from, to, head_dim, dim, weights, sums);
}

template <class Cache, int ROWS>
static __attribute__((noinline)) void attend_rows(const AttentionRow* rows, const PagedHead& head, int head_dim, float scale) {
    alignas(64) float scores[ROWS][SPAN];
    alignas(64) float sums[ROWS][MOST_HEAD_DIM];
    typename Cache::Query queries[ROWS];
    typename Cache::Weights weights[ROWS];
    float highest[ROWS], total[ROWS];
    int first = rows[0].first, last = rows[0].last;
    for (int r = 0; r < ROWS; r++) {
        queries[r].set(rows[r].query, head_dim);
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
            const char* next = base + BLOCK < end ? head.key_block(base / BLOCK + 1) : head.value_block(begin / BLOCK);
            score_block<Cache, ROWS>(rows, queries, head.key_block(base / BLOCK), next, head_dim, scale, base, scores, top);
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
                write(scores[r] + i, weight);
            }
            weights[r].set(scores[r], head, span, begin, end, head_dim);
            total[r] = total[r] * shrink + sum(added);
            if (shrink != 1.0f)
                for (int d = 0; d < head_dim; d++) sums[r][d] *= shrink;
        }
        mix_all<Cache, ROWS>(head, from, to, head_dim, weights, sums);
    }
    for (int r = 0; r < ROWS; r++) {
        Floats scaling = all(1.0f / total[r]);
        for (int d = 0; d < head_dim; d += LANES) write_bf16(rows[r].out + d, read<Floats>(sums[r] + d) * scaling);
    }
}

template <class Cache, int ROWS = MOST_ATTENDING>
static void attend(int count, const AttentionRow* rows, const PagedHead& head, int head_dim, float scale) {
    if (count == ROWS)
        attend_rows<Cache, ROWS>(rows, head, head_dim, scale);
    else if constexpr (ROWS > 1)
        attend<Cache, ROWS - 1>(count, rows, head, head_dim, scale);
}
