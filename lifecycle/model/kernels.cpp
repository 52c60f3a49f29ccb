// The passes over memory between the matrix products of a training step, in bf16 storage and fp32 arithmetic.
// Each function is one formula of lifecycle/model/fused.py, which has them in torch as well and says what the letters mean.
// Rows are independent, so threads share them out evenly; the results do not depend on how many there are, but for sums
// over rows, which every thread forms for its own.

#include <cmath>
#include <cstdint>
#include <cstring>

#define EXPORT extern "C" __attribute__((visibility("default")))
#define ROWS _Pragma("omp parallel for schedule(static) num_threads(threads)")
#define SIMD _Pragma("omp simd")

typedef uint16_t bf16;  // the upper half of a float

static inline float widen(bf16 x) {
    uint32_t bits = uint32_t(x) << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static inline bf16 narrow(float x) {  // to the nearest, ties to even
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

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

EXPORT void rms_norm(const bf16* x, const float* weight, bf16* y, float* scale, int64_t n, int64_t width, float eps, int threads) {
    ROWS for (int64_t i = 0; i < n; i++) {
        const bf16* row = x + i * width;
        float squares = 0;
        _Pragma("omp simd reduction(+ : squares)") for (int64_t j = 0; j < width; j++) squares += widen(row[j]) * widen(row[j]);
        float s = scale[i] = 1 / std::sqrt(squares / width + eps);
        SIMD for (int64_t j = 0; j < width; j++) y[i * width + j] = narrow(widen(row[j]) * s * weight[j]);
    }
}

// by_weight: [threads, width], zeros
EXPORT void rms_norm_backward(const bf16* by_y, const bf16* x, const float* weight, const float* scale, bf16* by_x, float* by_weight,
                              int64_t n, int64_t width, int threads) {
    ROWS for (int64_t t = 0; t < threads; t++) {
        float* sums = by_weight + t * width;
        for (int64_t i = n * t / threads; i < n * (t + 1) / threads; i++) {
            const bf16 *g = by_y + i * width, *row = x + i * width;
            float s = scale[i], dot = 0;
            _Pragma("omp simd reduction(+ : dot)") for (int64_t j = 0; j < width; j++) {
                float product = widen(g[j]) * widen(row[j]);
                sums[j] += product * s;
                dot += product * weight[j];
            }
            float mean = dot * s * s * s / width;
            SIMD for (int64_t j = 0; j < width; j++) by_x[i * width + j] = narrow(widen(g[j]) * weight[j] * s - widen(row[j]) * mean);
        }
    }
}

// x: n rows of `heads` heads, each of two halves; cos and sin: [positions, half], used over and over;
// direction: 1, or -1 to turn back
EXPORT void rotate(const bf16* x, const bf16* cos, const bf16* sin, bf16* y, int64_t n, int64_t heads, int64_t half,
                   int64_t positions, float direction, int threads) {
    ROWS for (int64_t i = 0; i < n; i++) {
        const bf16 *c = cos + i % positions * half, *s = sin + i % positions * half;
        for (int64_t h = 0; h < heads; h++) {
            const bf16* from = x + (i * heads + h) * 2 * half;
            bf16* to = y + (i * heads + h) * 2 * half;
            SIMD for (int64_t j = 0; j < half; j++) {
                float a = widen(from[j]), b = widen(from[half + j]), cj = widen(c[j]), sj = direction * widen(s[j]);
                to[j] = narrow(a * cj - b * sj);
                to[half + j] = narrow(b * cj + a * sj);
            }
        }
    }
}

EXPORT void swiglu(const bf16* gate, const bf16* up, bf16* y, int64_t n, int64_t width, int threads) {
    ROWS for (int64_t i = 0; i < n; i++)
        SIMD for (int64_t j = i * width; j < (i + 1) * width; j++) {
            float g = widen(gate[j]);
            y[j] = narrow(g * sigmoid(g) * widen(up[j]));
        }
}

EXPORT void swiglu_backward(const bf16* by_y, const bf16* gate, const bf16* up, bf16* by_gate, bf16* by_up, int64_t n, int64_t width,
                            int threads) {
    ROWS for (int64_t i = 0; i < n; i++)
        SIMD for (int64_t j = i * width; j < (i + 1) * width; j++) {
            float d = widen(by_y[j]), g = widen(gate[j]), s = sigmoid(g);
            by_gate[j] = narrow(d * widen(up[j]) * s * (1 + g * (1 - s)));
            by_up[j] = narrow(d * g * s);
        }
}

// Columns of a row that are worth a look: those before `seen`, and enough others that whole vectors are computed
static inline int64_t columns(int64_t seen, int64_t T) {
    int64_t whole = (seen + 31) / 32 * 32;
    return whole < T ? whole : T;
}

// n rows of T scores, in place; row r may look at positions 0 to r modulo T
EXPORT void causal_softmax(bf16* scores, int64_t n, int64_t T, float factor, int threads) {
    ROWS for (int64_t i = 0; i < n; i++) {
        bf16* row = scores + i * T;
        int64_t seen = i % T + 1, end = columns(seen, T);
        float largest = -INFINITY, sum = 0, p[T];
        _Pragma("omp simd reduction(max : largest)") for (int64_t j = 0; j < end; j++) {
            p[j] = j < seen ? widen(row[j]) * factor : -INFINITY;
            largest = p[j] > largest ? p[j] : largest;
        }
        _Pragma("omp simd reduction(+ : sum)") for (int64_t j = 0; j < end; j++) sum += p[j] = exponential(p[j] - largest);
        float share = 1 / sum;
        SIMD for (int64_t j = 0; j < end; j++) row[j] = narrow(p[j] * share);
        memset(row + end, 0, (T - end) * sizeof(bf16));
    }
}

// by_p becomes the gradient by scores
EXPORT void causal_softmax_backward(bf16* by_p, const bf16* p, int64_t n, int64_t T, float factor, int threads) {
    ROWS for (int64_t i = 0; i < n; i++) {
        bf16* d = by_p + i * T;
        const bf16* row = p + i * T;
        int64_t end = columns(i % T + 1, T);  // beyond what is seen p is 0
        float dot = 0;
        _Pragma("omp simd reduction(+ : dot)") for (int64_t j = 0; j < end; j++) dot += widen(d[j]) * widen(row[j]);
        SIMD for (int64_t j = 0; j < end; j++) d[j] = narrow(factor * widen(row[j]) * (widen(d[j]) - dot));
        memset(d + end, 0, (T - end) * sizeof(bf16));
    }
}

// logits [n, width] become their gradient where learn is set; hits: 1 where no logit is larger than the target's;
// a negative target counts for nothing
EXPORT void cross_entropy(bf16* logits, const int64_t* targets, float* nats, int64_t* hits, int64_t n, int64_t width, int64_t learn, int threads) {
    ROWS for (int64_t i = 0; i < n; i++) {
        bf16* row = logits + i * width;
        int64_t target = targets[i];
        nats[i] = hits[i] = 0;
        if (target < 0) {
            if (learn) memset(row, 0, width * sizeof(bf16));
            continue;
        }
        float wanted = widen(row[target]), largest = -INFINITY, sum = 0;
        _Pragma("omp simd reduction(max : largest)") for (int64_t j = 0; j < width; j++) {
            float value = widen(row[j]);
            largest = value > largest ? value : largest;
        }
        _Pragma("omp simd reduction(+ : sum)") for (int64_t j = 0; j < width; j++) sum += exponential(widen(row[j]) - largest);
        nats[i] = largest + std::log(sum) - wanted;
        hits[i] = wanted >= largest;
        if (!learn) continue;
        float share = 1 / sum;
        SIMD for (int64_t j = 0; j < width; j++) row[j] = narrow(exponential(widen(row[j]) - largest) * share);
        row[target] = narrow(exponential(wanted - largest) / sum - 1);
    }
}
