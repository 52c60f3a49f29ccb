// What the kernels need of a CPU: registers of LANES fp32 numbers, bfloat16 in and out of them, and dot products.
//
// Three instruction sets, chosen by compiler flags; the kernels themselves are written once:
//   AVX-512 with BF16    16 lanes, two bf16 products a lane and instruction
//   AVX-512              16 lanes, the same product from two fused multiply-adds
//   AVX2                  8 lanes, likewise
// Arithmetic on `Floats` and `Ints` is plain + - * of GCC's vector extension; only what it cannot say is an intrinsic.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#define FORCED inline __attribute__((always_inline))
#define INLINE static FORCED
// Accumulators live in registers only when every loop over them is unrolled.
#define UNROLL _Pragma("GCC unroll 16")

#ifdef __AVX512F__
constexpr int LANES = 16;
#else
constexpr int LANES = 8;
#endif

typedef uint16_t bf16;  // the upper half of an fp32
typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t Bits __attribute__((vector_size(4 * LANES)));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));

// Reads and writes need no alignment.
template <class Vector>
INLINE Vector read(const void* from) {
    Vector v;
    memcpy(&v, from, sizeof v);
    return v;
}
template <class Vector>
INLINE void write(void* to, Vector v) {
    memcpy(to, &v, sizeof v);
}

INLINE Floats all(float x) { return x - Floats{}; }
INLINE Ints all_ints(int32_t x) { return x - Ints{}; }
INLINE Floats larger(Floats a, Floats b) { return a > b ? a : b; }

INLINE float sum(Floats v) {
    float total = 0;
    for (int i = 0; i < LANES; i++) total += v[i];
    return total;
}
INLINE float largest(Floats v) {
#ifdef __AVX512F__
    return _mm512_reduce_max_ps((__m512)v);
#else
    float best = v[0];
    for (int i = 1; i < LANES; i++) best = v[i] > best ? v[i] : best;
    return best;
#endif
}

INLINE bool any_reaches(Floats v, float bound) {
#ifdef __AVX512F__
    return _mm512_cmp_ps_mask((__m512)v, (__m512)all(bound), _CMP_GE_OQ);
#else
    return _mm256_movemask_ps(_mm256_cmp_ps((__m256)v, (__m256)all(bound), _CMP_GE_OQ));
#endif
}

INLINE float widen(bf16 x) {
    uint32_t bits = uint32_t(x) << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}
INLINE bf16 narrow(float x) {  // to the nearest, ties to even
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bf16((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
INLINE Floats read_bf16(const bf16* from) {
    return (Floats)(__builtin_convertvector(read<Halves>(from), Bits) << 16);
}
INLINE void write_bf16(bf16* to, Floats v) {
#ifdef __AVX512BF16__
    __m256bh narrowed = _mm512_cvtneps_pbh((__m512)v);
    memcpy(to, &narrowed, 32);
#else
    Bits bits = (Bits)v;
    write(to, __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, Halves));
#endif
}

// 0, or NaN where one of the numbers is none: what rounds them to integers would hide it.
INLINE float spoilt(const bf16* x, int size) {
    Floats none = Floats{};
    for (int i = 0; i < size; i += LANES) {
        Floats v = read_bf16(x + i);
        none += v - v;
    }
    return sum(none);
}

// e^x to about 1e-7 of its value: 2^n times a polynomial on [-1/2, 1/2]. Below -87 it is 0 to a float's precision.
INLINE Floats exponential(Floats x) {
    const float magic = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the lowest bits
    Floats scaled = x * 1.44269504f;
    scaled = scaled < -126.0f ? all(-126.0f) : scaled;
    scaled = scaled > 127.0f ? all(127.0f) : scaled;
    Floats shifted = scaled + magic;
    Floats f = scaled - (shifted - magic);
    Floats p = all(1.3333558e-3f);
    p = p * f + 9.6181291e-3f;
    p = p * f + 5.5504109e-2f;
    p = p * f + 2.4022651e-1f;
    p = p * f + 6.9314718e-1f;
    p = p * f + 1.0f;
    Ints n = (Ints)shifted - (Ints)all(magic);
    return p * (Floats)((n + 127) << 23);
}

// sum += weights . values, where each lane of `weights` and the one `pair` hold two bf16 numbers.
INLINE Floats dot_bf16(Floats sum, Ints weights, int32_t pair) {
#ifdef __AVX512BF16__
    return (Floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)weights, (__m512bh)all_ints(pair));
#else
    uint32_t low = uint32_t(pair) << 16, high = uint32_t(pair) & 0xffff0000u;
    float even, odd;
    memcpy(&even, &low, 4);
    memcpy(&odd, &high, 4);
    sum += (Floats)(weights << 16) * even;
    return sum + (Floats)(weights & int32_t(0xffff0000)) * odd;
#endif
}

// sum += weights . values, where each lane of `weights` holds four int8 and `four` as many uint8. Exact.
INLINE Ints dot_int8(Ints sum, Ints weights, int32_t four) {
#if defined(__AVX512VNNI__)
    return (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)all_ints(four), (__m512i)weights);
#elif defined(__AVX512BW__)
    __m512i even = _mm512_srai_epi16(_mm512_slli_epi16((__m512i)weights, 8), 8);
    __m512i odd = _mm512_srai_epi16((__m512i)weights, 8);
    Ints low = all_ints(four & 0x00ff00ff), high = all_ints(int32_t(uint32_t(four) >> 8) & 0x00ff00ff);
    sum += (Ints)_mm512_madd_epi16(even, (__m512i)low);
    return sum + (Ints)_mm512_madd_epi16(odd, (__m512i)high);
#else
    __m256i even = _mm256_srai_epi16(_mm256_slli_epi16((__m256i)weights, 8), 8);
    __m256i odd = _mm256_srai_epi16((__m256i)weights, 8);
    Ints low = all_ints(four & 0x00ff00ff), high = all_ints(int32_t(uint32_t(four) >> 8) & 0x00ff00ff);
    sum += (Ints)_mm256_madd_epi16(even, (__m256i)low);
    return sum + (Ints)_mm256_madd_epi16(odd, (__m256i)high);
#endif
}
