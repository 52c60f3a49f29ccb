// Keys and values in blocks of 32 tokens that lie anywhere in the pool, and what attention does with them: scores and sums.
//
// Two forms. In both, four bytes hold what one dot product instruction takes, and lanes are tokens (keys) or dimensions
// (values), so that no sum across lanes is ever needed:
//
//     bf16    keys of a block     [D / 2][32 tokens][2]        values    [16][D][2 tokens]
//     int8    keys of a block     [D / 4][32 tokens][4]        values    [8][D][4 tokens]
//             then for each token what one unit of its key is worth (fp32) and 128 x the sum of its units (int32), and what
//             one unit of its value is worth (fp32)
//
// Int8 is half as much to read, which is what limits attention over long contexts. Only keys and values are rounded: what
// they are multiplied with has 16 bits, as two bytes with a product each, so the number of instructions stays the same.
#pragma once

#include <cmath>

#include "simd.h"

constexpr int BLOCK = 32;
constexpr int SPAN = 256;  // positions whose weights are made at a time
constexpr int MOST_HEAD_DIM = 256;
constexpr int TOKEN_VECTORS = BLOCK / LANES;

typedef uint8_t Bytes __attribute__((vector_size(LANES)));

// One key and value head of one sequence.
struct PagedHead {
    const char* keys;  // of block 0
    const char* values;
    int64_t key_stride, value_stride;  // from block to block, in bytes
    const int32_t* table;              // which block holds positions [32 i, 32 i + 32)

    const char* key_block(int i) const { return keys + table[i] * key_stride; }
    const char* value_block(int i) const { return values + table[i] * value_stride; }
};

// Numbers that are none become 0: a mask cannot hide them (0 x NaN is NaN) from who inherits the block.
INLINE bf16 finite(bf16 x) { return (x & 0x7f80) == 0x7f80 ? 0 : x; }

INLINE void prefetch(const char* from, int bytes) {
    for (int at = 0; at < bytes; at += 64) _mm_prefetch(from + at, _MM_HINT_T0);
}

struct Bf16Cache {
    static constexpr int SLICE = 4;   // registers of outputs that are summed at a time
    static int64_t key_bytes(int head_dim) { return 2 * BLOCK * head_dim; }
    static int64_t value_bytes(int head_dim) { return 2 * BLOCK * head_dim; }

    static void store_key(const bf16* key, char* block, int offset, int head_dim) {
        for (int pair = 0; pair < head_dim / 2; pair++) {
            bf16* to = (bf16*)block + (pair * BLOCK + offset) * 2;
            to[0] = finite(key[2 * pair]);
            to[1] = finite(key[2 * pair + 1]);
        }
    }

    static void store_value(const bf16* value, char* block, int offset, int head_dim) {
        bf16* to = (bf16*)block + offset / 2 * 2 * head_dim + offset % 2;
        for (int d = 0; d < head_dim; d++) to[2 * d] = finite(value[d]);
    }

    // A query as the scores need it.
    struct Query {
        const bf16* numbers;
        void set(const bf16* query, int) { numbers = query; }
    };

    // Dot products of the queries with the 32 keys of a block; `next` is what will be read after it.
    template <int ROWS>
    INLINE void scores(const Query* queries, const char* keys, const char* next, int head_dim, Floats (*sums)[TOKEN_VECTORS]) {
        UNROLL for (int r = 0; r < ROWS; r++)
            UNROLL for (int v = 0; v < TOKEN_VECTORS; v++) sums[r][v] = Floats{};
        for (int pair = 0; pair < head_dim / 2; pair++) {
            Ints k[TOKEN_VECTORS];
            UNROLL for (int v = 0; v < TOKEN_VECTORS; v++) k[v] = read<Ints>(keys + (pair * BLOCK + v * LANES) * 4);
            prefetch(next + pair * BLOCK * 4, BLOCK * 4);
            UNROLL for (int r = 0; r < ROWS; r++) {
                int32_t q = read<int32_t>(queries[r].numbers + 2 * pair);
                UNROLL for (int v = 0; v < TOKEN_VECTORS; v++) sums[r][v] = dot_bf16(sums[r][v], k[v], q);
            }
        }
    }

    // The weights of a row's positions as the sums need them.
    struct Weights {
        alignas(64) bf16 numbers[SPAN];
        void set(const float* weights, const PagedHead&, int span, int begin, int end, int) {
            for (int i = begin; i < end; i += LANES) write_bf16(numbers + i - span, read<Floats>(weights + i - span));
        }
    };

    // sums[r] += weights[r] . values for `WIDTH` registers of dimensions from `dim` on, over the positions [from, to).
    template <int ROWS, int WIDTH>
    static __attribute__((noinline)) void mix(const PagedHead& head, int from, int to, int head_dim, int dim,
                                              const Weights* weights, float (*sums)[MOST_HEAD_DIM]) {
        Floats acc[ROWS][WIDTH];
        UNROLL for (int r = 0; r < ROWS; r++)
            UNROLL for (int w = 0; w < WIDTH; w++) acc[r][w] = read<Floats>(sums[r] + dim + w * LANES);
        for (int base = from / BLOCK * BLOCK; base < to; base += BLOCK) {
            const char* values = head.value_block(base / BLOCK) + 4 * dim;
            const char* next = base + BLOCK < to ? head.value_block(base / BLOCK + 1) + 4 * dim : values;
            int pairs = (to - base + 1) / 2 < BLOCK / 2 ? (to - base + 1) / 2 : BLOCK / 2;
            for (int pair = 0; pair < pairs; pair++) {
                const char* here = values + int64_t(pair) * 4 * head_dim;
                prefetch(next + int64_t(pair) * 4 * head_dim, WIDTH * LANES * 4);
                Ints v[WIDTH];
                UNROLL for (int w = 0; w < WIDTH; w++) v[w] = read<Ints>(here + 4 * w * LANES);
                UNROLL for (int r = 0; r < ROWS; r++) {
                    int32_t two = read<int32_t>(weights[r].numbers + base % SPAN + 2 * pair);
                    UNROLL for (int w = 0; w < WIDTH; w++) acc[r][w] = dot_bf16(acc[r][w], v[w], two);
                }
            }
        }
        UNROLL for (int r = 0; r < ROWS; r++)
            UNROLL for (int w = 0; w < WIDTH; w++) write(sums[r] + dim + w * LANES, acc[r][w]);
    }
};

struct Int8Cache {
    static constexpr int SLICE = 2;
    static int64_t key_bytes(int head_dim) { return BLOCK * (head_dim + 8); }
    static int64_t value_bytes(int head_dim) { return BLOCK * (head_dim + 4); }

    // Symmetric rounding to units from -`most` to `most`, each plus `shift`; returns what one unit is worth.
    template <class Narrow>
    static float round(const bf16* x, int size, float most, int32_t shift, Narrow narrow) {
        Floats top = Floats{};
        for (int i = 0; i < size; i += LANES) top = larger(top, magnitude(x + i));
        float largest_one = largest(top), inverse = largest_one > 0 ? most / largest_one : 0;
        const float magic = 12582912.0f;  // as in `exponential`: its lowest bits become the nearest integer
        for (int i = 0; i < size; i += LANES)
            narrow(i, (Ints)(numbers(x + i) * inverse + magic) - (Ints)all(magic) + shift);
        return largest_one / most;
    }

    INLINE Floats numbers(const bf16* x) {  // those that are none become 0
        Halves bits = read<Halves>(x);
        bits = (bits & 0x7f80) == 0x7f80 ? Halves{} : bits;
        return (Floats)(__builtin_convertvector(bits, Bits) << 16);
    }
    INLINE Floats magnitude(const bf16* x) { return larger(numbers(x), -numbers(x)); }

    static float round_to_int8(const bf16* x, int8_t* out, int size) {
        return round(x, size, 127, 0, [&](int i, Ints units) { write(out + i, __builtin_convertvector(units, Bytes)); });
    }

    static void store_key(const bf16* key, char* block, int offset, int head_dim) {
        int8_t units[MOST_HEAD_DIM];
        float worth = round_to_int8(key, units, head_dim);
        int32_t total = 0;
        for (int i = 0; i < head_dim; i++) total += units[i];
        for (int group = 0; group < head_dim / 4; group++) memcpy(block + (group * BLOCK + offset) * 4, units + 4 * group, 4);
        char* after = block + BLOCK * head_dim + 4 * offset;
        total *= 128;
        memcpy(after, &worth, 4);
        memcpy(after + 4 * BLOCK, &total, 4);
    }

    static void store_value(const bf16* value, char* block, int offset, int head_dim) {
        int8_t units[MOST_HEAD_DIM];
        float worth = round_to_int8(value, units, head_dim);
        char* to = block + offset / 4 * 4 * head_dim + offset % 4;
        for (int d = 0; d < head_dim; d++) to[4 * d] = units[d];
        memcpy(block + BLOCK * head_dim + 4 * offset, &worth, 4);
    }

    // 16 bits, stored as x + 32768 in two bytes. One that is no number spoils all of its scores, as in bf16.
    struct Query {
        uint8_t high[MOST_HEAD_DIM], low[MOST_HEAD_DIM];
        float worth;
        void set(const bf16* query, int head_dim) {
            worth = round(query, head_dim, 32767, 32768, [&](int i, Ints units) {
                write(high + i, __builtin_convertvector(units >> 8, Bytes));
                write(low + i, __builtin_convertvector(units & 255, Bytes));
            }) + spoilt(query, head_dim);
        }
    };

    template <int ROWS>
    INLINE void scores(const Query* queries, const char* keys, const char* next, int head_dim, Floats (*sums)[TOKEN_VECTORS]) {
        Ints high[ROWS][TOKEN_VECTORS], low[ROWS][TOKEN_VECTORS];
        UNROLL for (int r = 0; r < ROWS; r++)
            UNROLL for (int v = 0; v < TOKEN_VECTORS; v++) high[r][v] = low[r][v] = Ints{};
        for (int group = 0; group < head_dim / 4; group++) {
            Ints k[TOKEN_VECTORS];
            UNROLL for (int v = 0; v < TOKEN_VECTORS; v++) k[v] = read<Ints>(keys + (group * BLOCK + v * LANES) * 4);
            prefetch(next + group * BLOCK * 4, BLOCK * 4);
            UNROLL for (int r = 0; r < ROWS; r++) {
                int32_t upper = read<int32_t>(queries[r].high + 4 * group), lower = read<int32_t>(queries[r].low + 4 * group);
                UNROLL for (int v = 0; v < TOKEN_VECTORS; v++) {
                    high[r][v] = dot_int8(high[r][v], k[v], upper);
                    low[r][v] = dot_int8(low[r][v], k[v], lower);
                }
            }
        }
        const char* worth = keys + BLOCK * head_dim;
        const char* offsets = worth + 4 * BLOCK;
        UNROLL for (int r = 0; r < ROWS; r++)
            UNROLL for (int v = 0; v < TOKEN_VECTORS; v++) {
                Ints exact = high[r][v] - read<Ints>(offsets + 4 * v * LANES);
                Floats whole = __builtin_convertvector(exact, Floats) * 256.0f + __builtin_convertvector(low[r][v], Floats);
                sums[r][v] = whole * queries[r].worth * read<Floats>(worth + 4 * v * LANES);
            }
    }

    // 16 bits again, of the weight times what a unit of the position's value is worth.
    struct Weights {
        alignas(64) uint8_t high[SPAN];
        alignas(64) uint8_t low[SPAN];
        float worth;
        void set(float* weights, const PagedHead& head, int span, int begin, int end, int head_dim) {
            Floats most = Floats{};
            for (int i = begin; i < end; i += LANES) {
                const char* worths = head.value_block(i / BLOCK) + BLOCK * head_dim;
                Floats product = read<Floats>(weights + i - span) * read<Floats>(worths + 4 * (i % BLOCK));
                write(weights + i - span, product);
                most = larger(most, product);
            }
            float top = largest(most), inverse = top > 0 ? 65535 / top : 0;
            for (int i = begin; i < end; i += LANES) {
                Ints number = __builtin_convertvector(read<Floats>(weights + i - span) * inverse + 0.5f, Ints);
                write(high + i - span, __builtin_convertvector(number >> 8, Bytes));
                write(low + i - span, __builtin_convertvector(number & 255, Bytes));
            }
            worth = top / 65535;
        }
    };

    template <int ROWS, int WIDTH>
    static __attribute__((noinline)) void mix(const PagedHead& head, int from, int to, int head_dim, int dim,
                                              const Weights* weights, float (*sums)[MOST_HEAD_DIM]) {
        Ints high[ROWS][WIDTH], low[ROWS][WIDTH];
        UNROLL for (int r = 0; r < ROWS; r++)
            UNROLL for (int w = 0; w < WIDTH; w++) high[r][w] = low[r][w] = Ints{};
        for (int base = from / BLOCK * BLOCK; base < to; base += BLOCK) {
            const char* values = head.value_block(base / BLOCK) + 4 * dim;
            const char* next = base + BLOCK < to ? head.value_block(base / BLOCK + 1) + 4 * dim : values;
            int groups = (to - base + 3) / 4 < BLOCK / 4 ? (to - base + 3) / 4 : BLOCK / 4;
            for (int group = 0; group < groups; group++) {
                const char* here = values + int64_t(group) * 4 * head_dim;
                prefetch(next + int64_t(group) * 4 * head_dim, WIDTH * LANES * 4);
                Ints v[WIDTH];
                UNROLL for (int w = 0; w < WIDTH; w++) v[w] = read<Ints>(here + 4 * w * LANES);
                UNROLL for (int r = 0; r < ROWS; r++) {
                    int at = base % SPAN + 4 * group;
                    int32_t upper = read<int32_t>(weights[r].high + at), lower = read<int32_t>(weights[r].low + at);
                    UNROLL for (int w = 0; w < WIDTH; w++) {
                        high[r][w] = dot_int8(high[r][w], v[w], upper);
                        low[r][w] = dot_int8(low[r][w], v[w], lower);
                    }
                }
            }
        }
        UNROLL for (int r = 0; r < ROWS; r++)
            UNROLL for (int w = 0; w < WIDTH; w++) {
                float* sum = sums[r] + dim + w * LANES;
                Floats whole = __builtin_convertvector(high[r][w], Floats) * 256.0f + __builtin_convertvector(low[r][w], Floats);
                write(sum, read<Floats>(sum) + whole * weights[r].worth);
            }
    }
};
