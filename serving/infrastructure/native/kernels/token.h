// What is done to one token between two matrix products: normalise, round to int8, rotate.
#pragma once

#include <cmath>

#include "attention.h"
#include "linear.h"

// out = x / rms(x) * weight over `width` numbers, of which those beyond `size` are 0 and stay so.
static void rms_norm(const float* x, const float* weight, bf16* out, int size, int width, float epsilon) {
    Floats squares = Floats{};
    for (int i = 0; i < width; i += LANES) {
        Floats v = read<Floats>(x + i);
        squares += v * v;
    }
    float scale = 1.0f / sqrtf(sum(squares) / size + epsilon);
    for (int i = 0; i < width; i += LANES)
        write_bf16(out + i, read<Floats>(x + i) * scale * read<Floats>(weight + i));
}

// Symmetric rounding of a row to int8, stored as x + 128; returns what one unit is worth: NaN when one is no number.
static float quantise(const bf16* x, uint8_t* out, int width) {
    Floats most = Floats{};
    for (int i = 0; i < width; i += LANES) {
        Floats v = read_bf16(x + i);
        most = larger(most, larger(v, -v));
    }
    float top = largest(most);
    float scale = top > 0 ? top / 127 : 1.0f, inverse = 1.0f / scale;
    const float magic = 12582912.0f;  // as in `exponential`: its lowest bits become the nearest integer
    for (int i = 0; i < width; i += LANES) {
        Ints rounded = (Ints)(read_bf16(x + i) * inverse + magic) - (Ints)all(magic) + 128;
        write(out + i, __builtin_convertvector(rounded, Bytes));
    }
    return scale + spoilt(x, width);
}

// One head [D] in place: normalised if there is a weight (Qwen3), then each pair (i, i + D/2) turned by the position's
// angle. `rope` is [D/2] cosines, then as many sines; null where a layer does not rotate.
static void prepare_head(bf16* head, int head_dim, const float* norm, float epsilon, const float* rope) {
    float x[MOST_HEAD_DIM];
    for (int i = 0; i < head_dim; i++) x[i] = widen(head[i]);
    if (norm) {
        float squares = 0;
        for (int i = 0; i < head_dim; i++) squares += x[i] * x[i];
        float scale = 1.0f / sqrtf(squares / head_dim + epsilon);
        for (int i = 0; i < head_dim; i++) x[i] = x[i] * scale * norm[i];
    }
    if (rope) {
        int half = head_dim / 2;
        for (int i = 0; i < half; i++) {
            float a = x[i], b = x[half + i], cosine = rope[i], sine = rope[half + i];
            x[i] = a * cosine - b * sine;
            x[half + i] = b * cosine + a * sine;
        }
    }
    for (int i = 0; i < head_dim; i++) head[i] = narrow(x[i]);
}
