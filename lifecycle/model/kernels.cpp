// The passes over memory between the matrix products of a training step, in fp32 arithmetic. NUMBER is what the tensors hold,
// bf16 or float: the compiler is told which.
// Each function is one formula of lifecycle/model/fused.py, which has them in torch as well and says what the letters mean.
// Rows are independent, so threads share them out evenly; the results do not depend on how many there are, but for sums
// over rows, which every thread forms for its own.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#define EXPORT extern "C" __attribute__((visibility("default")))
#define ROWS _Pragma("omp parallel for schedule(static) num_threads(threads)")
#define SIMD _Pragma("omp simd")

struct bf16 {  // the upper half of a float
    uint16_t half;
    void operator=(float value) {  // to the nearest, ties to even; of its only member: a copied struct keeps a loop from becoming vectors
        uint32_t bits;
        memcpy(&bits, &value, 4);
        half = uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    }
    operator float() const {
        uint32_t bits = uint32_t(half) << 16;
        float value;
        memcpy(&value, &bits, 4);
        return value;
    }
};

typedef NUMBER number;

static inline float exponential(float x) {  // e^x = 2^n e^r with |r| <= ln(2) / 2, e^r by its series; 2^-126 and less is 0
    const float shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, which then stands in the lowest bits
    float clamped = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    float shifted = clamped * 1.44269504f + shift;
    float n = shifted - shift;
    float r = (clamped - n * 0.693145752f) - n * 1.42860677e-6f;
    float series = 1 + r * (1 + r * (0.5f + r * (1.66666667e-1f + r * (4.16666667e-2f + r * (8.33333333e-3f + r * 1.38888889e-3f)))));
    int32_t power = (int32_t(n) + 127) << 23;
    float scale;
    memcpy(&scale, &power, 4);
    float result = series * scale;
    return x < -87.0f ? 0.0f : x != x ? x : result;
}

static inline float sigmoid(float x) { return 1 / (1 + exponential(-x)); }

EXPORT void rms_norm(const number* x, const float* weight, number* y, float* scale, int64_t n, int64_t width, float eps, int threads) {
    ROWS for (int64_t i = 0; i < n; i++) {
        const number* row = x + i * width;
        float squares = 0;
        _Pragma("omp simd reduction(+ : squares)") for (int64_t j = 0; j < width; j++) squares += row[j] * row[j];
        float s = scale[i] = 1 / std::sqrt(squares / width + eps);
        SIMD for (int64_t j = 0; j < width; j++) y[i * width + j] = row[j] * s * weight[j];
    }
}

// by_weight: [threads, width], zeros
EXPORT void rms_norm_backward(const number* by_y, const number* x, const float* weight, const float* scale, number* by_x, float* by_weight,
                              int64_t n, int64_t width, int threads) {
    ROWS for (int64_t t = 0; t < threads; t++) {
        float* sums = by_weight + t * width;
        for (int64_t i = n * t / threads; i < n * (t + 1) / threads; i++) {
            const number *g = by_y + i * width, *row = x + i * width;
            float s = scale[i], dot = 0;
            _Pragma("omp simd reduction(+ : dot)") for (int64_t j = 0; j < width; j++) {
                float product = g[j] * row[j];
                sums[j] += product * s;
                dot += product * weight[j];
            }
            float mean = dot * s * s * s / width;
            SIMD for (int64_t j = 0; j < width; j++) by_x[i * width + j] = g[j] * weight[j] * s - row[j] * mean;
        }
    }
}

// x: n rows of `heads` heads, each of two halves; cos and sin: [positions, half], used over and over;
// direction: 1, or -1 to turn back
EXPORT void rotate(const number* x, const number* cos, const number* sin, number* y, int64_t n, int64_t heads, int64_t half,
                   int64_t positions, float direction, int threads) {
    ROWS for (int64_t i = 0; i < n; i++) {
        const number *c = cos + i % positions * half, *s = sin + i % positions * half;
        for (int64_t h = 0; h < heads; h++) {
            const number* from = x + (i * heads + h) * 2 * half;
            number* to = y + (i * heads + h) * 2 * half;
            SIMD for (int64_t j = 0; j < half; j++) {
                float a = from[j], b = from[half + j], cj = c[j], sj = direction * s[j];
                to[j] = a * cj - b * sj;
                to[half + j] = b * cj + a * sj;
            }
        }
    }
}

EXPORT void swiglu(const number* gate, const number* up, number* y, int64_t n, int64_t width, int threads) {
    ROWS for (int64_t i = 0; i < n; i++)
        SIMD for (int64_t j = i * width; j < (i + 1) * width; j++) {
            float g = gate[j];
            y[j] = g * sigmoid(g) * up[j];
        }
}

EXPORT void swiglu_backward(const number* by_y, const number* gate, const number* up, number* by_gate, number* by_up, int64_t n, int64_t width,
                            int threads) {
    ROWS for (int64_t i = 0; i < n; i++)
        SIMD for (int64_t j = i * width; j < (i + 1) * width; j++) {
            float d = by_y[j], g = gate[j], s = sigmoid(g);
            by_gate[j] = d * up[j] * s * (1 + g * (1 - s));
            by_up[j] = d * g * s;
        }
}

// Columns of a row that are worth a look: those before `seen`, and enough others that whole vectors are computed
static inline int64_t columns(int64_t seen, int64_t T) {
    int64_t whole = (seen + 31) / 32 * 32;
    return whole < T ? whole : T;
}

// n rows of T scores, in place; row r may look at positions 0 to r modulo T
EXPORT void causal_softmax(number* scores, int64_t n, int64_t T, float factor, int threads) {
    ROWS for (int64_t i = 0; i < n; i++) {
        number* row = scores + i * T;
        int64_t seen = i % T + 1, end = columns(seen, T);
        float largest = -INFINITY, sum = 0, p[T];
        _Pragma("omp simd reduction(max : largest)") for (int64_t j = 0; j < end; j++) {
            p[j] = j < seen ? row[j] * factor : -INFINITY;
            largest = p[j] > largest ? p[j] : largest;
        }
        _Pragma("omp simd reduction(+ : sum)") for (int64_t j = 0; j < end; j++) sum += p[j] = exponential(p[j] - largest);
        float share = 1 / sum;
        SIMD for (int64_t j = 0; j < end; j++) row[j] = p[j] * share;
        std::fill(row + end, row + T, 0.0f);
    }
}

// by_p becomes the gradient by scores
EXPORT void causal_softmax_backward(number* by_p, const number* p, int64_t n, int64_t T, float factor, int threads) {
    ROWS for (int64_t i = 0; i < n; i++) {
        number* d = by_p + i * T;
        const number* row = p + i * T;
        int64_t end = columns(i % T + 1, T);  // beyond what is seen p is 0
        float dot = 0;
        _Pragma("omp simd reduction(+ : dot)") for (int64_t j = 0; j < end; j++) dot += d[j] * row[j];
        SIMD for (int64_t j = 0; j < end; j++) d[j] = factor * row[j] * (d[j] - dot);
        std::fill(d + end, d + T, 0.0f);
    }
}

// logits [n, width] become their gradient where learn is set; hits: 1 where no logit is larger than the target's;
// a negative target counts for nothing
EXPORT void cross_entropy(number* logits, const int64_t* targets, float* nats, int64_t* hits, int64_t n, int64_t width, int64_t learn, int threads) {
    ROWS for (int64_t i = 0; i < n; i++) {
        number* row = logits + i * width;
        int64_t target = targets[i];
        nats[i] = hits[i] = 0;
        if (target < 0) {
            if (learn) std::fill(row, row + width, 0.0f);
            continue;
        }
        float wanted = row[target], largest = -INFINITY, sum = 0;
        _Pragma("omp simd reduction(max : largest)") for (int64_t j = 0; j < width; j++) {
            float value = row[j];
            largest = value > largest ? value : largest;
        }
        _Pragma("omp simd reduction(+ : sum)") for (int64_t j = 0; j < width; j++) sum += exponential(row[j] - largest);
        nats[i] = largest + std::log(sum) - wanted;
        hits[i] = wanted >= largest;
        if (!learn) continue;
        float share = 1 / sum;
        SIMD for (int64_t j = 0; j < width; j++) row[j] = exponential(row[j] - largest) * share;
        row[target] = exponential(wanted - largest) / sum - 1;
    }
}

// y: n rows of `width`, row i of them row index[i] of x, whose rows are `stride` apart, zeros where the index is `rows`, of which x has as many
EXPORT void pick(number* y, const int64_t* index, const number* x, int64_t n, int64_t rows, int64_t width, int64_t stride, int threads) {
    ROWS for (int64_t i = 0; i < n; i++)
        if (index[i] < rows) memcpy(y + i * width, x + index[i] * stride, width * sizeof(number));
        else memset(y + i * width, 0, width * sizeof(number));
}
