// A token drawn from a row of logits with the probability that softmax gives it, by inverting the cumulative distribution.
#pragma once

#include <cmath>

#include "linear.h"

// Uniform in [0, 1): of a sequence's seed and the position of a token in its answer, as `uniforms` in sampler.py has it.
INLINE uint64_t mixed(uint64_t x) {  // a step of splitmix64
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}
INLINE double uniform(uint64_t seed, int64_t position) {
    return double(mixed(mixed(seed) + uint64_t(position) * 0x9E3779B97F4A7C15u) >> 40) * 0x1p-24;
}

struct Drawn {
    int32_t token;
    float logprob;  // not finite when the logits are not
};

INLINE Floats panel_sum(const float* weights) {
    Floats total = read<Floats>(weights);
    for (int i = LANES; i < PANEL; i += LANES) total += read<Floats>(weights + i);
    return total;
}

// `logits`: a whole number of panels, of which those from `vocabulary` on are nobody's; they become weights, e^(logit - largest).
static Drawn draw(float* logits, int vocabulary, float temperature, double chance) {
    int outputs = (vocabulary + PANEL - 1) / PANEL * PANEL;
    for (int i = vocabulary; i < outputs; i++) logits[i] = logits[0];
    Floats most = read<Floats>(logits);
    for (int i = LANES; i < outputs; i += LANES) most = larger(most, read<Floats>(logits + i));
    float top = largest(most), factor = 1 / temperature;
    for (int i = 0; i < outputs; i += LANES) write(logits + i, exponential((read<Floats>(logits + i) - top) * factor));
    for (int i = vocabulary; i < outputs; i++) logits[i] = 0;
    double total = 0, before = 0;
    for (int i = 0; i < outputs; i += PANEL) total += sum(panel_sum(logits + i));
    double wanted = chance * total;
    int found = 0;  // the last token that has a weight, where rounding leaves the sum short of what is wanted
    for (int panel = 0; panel < outputs; panel += PANEL) {
        double after = before + sum(panel_sum(logits + panel));
        if (after > wanted || panel + PANEL == outputs) {
            for (int i = panel; i < panel + PANEL && before <= wanted; i++) {
                before += logits[i];
                if (logits[i] > 0) found = i;
            }
            break;
        }
        before = after;
    }
    return {found, std::log(float(logits[found] / total))};
}
