// One step of a Llama-like decoder over any mixture of prompts and decodes, in one parallel region.
//
// The library keeps nothing: weights, keys and values, scratch space and the batch are the caller's (library.py mirrors
// these structures field by field), so there is nothing to free and nothing to go stale.
#include <omp.h>

#include <ctime>

#include "attention.h"
#include "draw.h"
#include "linear.h"
#include "parallel.h"
#include "screen.h"
#include "token.h"

struct Layer {
    Linear qkv, out, gate_up, down;
    const float* attention_norm;  // [width]
    const float* mlp_norm;
    const float* query_norm;  // [D], or null
    const float* key_norm;
    char* keys;  // [blocks][kv_heads] as cache.h says
    char* values;
    int32_t window;  // positions that a token sees, itself among them; 0: all
    int32_t rotates;
};

struct Model {
    int32_t layers, hidden, width, heads, kv_heads, head_dim, vocabulary;  // width: hidden, padded to 32
    int32_t int8_cache;  // whether keys and values are in int8
    float epsilon, embedding_scale, residual_scale, attention_scale, logit_scale;
    const Layer* layer;
    const bf16* embedding;  // [vocabulary][hidden]
    const float* final_norm;
    Linear head;
    Screen screen;
};

constexpr int PHASES = 8;  // embed + norm, qkv, rope + write, attention, out, gate + up, down, head

struct Scratch {  // rows of the longest step
    Team* team;
    float* residual;  // [rows][width]
    bf16* normed;     // [rows][width]; a few of each thread when it works alone, likewise what is rounded
    bf16* qkv;        // [rows][qkv.outputs]
    bf16* attended;   // [rows][heads * D, padded to 32]
    bf16* gated;      // [rows][gate_up.outputs / 2]
    uint8_t* rounded;       // int8: [rows][widest input]
    float* rounded_scales;  // int8: [rows]
    float* thread_best;     // [threads][wanted]
    int32_t* thread_best_at;
    RowBounds* row_bounds;  // [threads][wanted]
    float* upper;           // [panels of the head][wanted]
    float* floor;           // [threads][wanted]
    double* seconds;  // [PHASES], added to
};

struct Batch {
    int32_t tokens, sequences, wanted, threads;
    int32_t passes;            // more than 1, of decodes alone: each goes on with the token that was chosen
    int32_t* token;            // [tokens]
    const int32_t* first_row;  // [sequences + 1]
    int32_t* start;            // [sequences] position of a sequence's first token here
    const int32_t* tables;     // block numbers of all sequences, one after the other
    const int32_t* table_at;   // [sequences] where each one's begin
    const int32_t* wanted_row; // [wanted] rows whose logits are asked for
    const float* rope;         // [positions][D]: cosines, then sines
    float* logits;             // [wanted][head.outputs], or null when the likeliest tokens are enough
    const float* temperature;  // [wanted]: tokens are drawn, the likeliest where it is 0; null: nothing is drawn. Takes the logits apart
    const uint64_t* seed;      // [wanted]
    const int64_t* position;   // [wanted] in the answer, of what the first pass chooses
    float* best;               // [passes][wanted] logits, of what was drawn log-probabilities
    int32_t* best_at;
};

constexpr int TILE_TOKENS = 16;  // of a prompt, in one piece of attention's work
constexpr int ALONE = 8;         // so few rows each thread normalises for itself: that is sooner done than waiting for others

static double now() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

// A thread's part of a step. Phases end with `meet`; what is between two of them touches rows or outputs of its own.
struct Worker {
    const Model& model;
    const Scratch& scratch;
    const Batch& batch;
    Team& team;
    int thread;
    double phase_began;

    void run() {
        phase_began = now();
        for (int pass = 0; pass < batch.passes; pass++) {
            if (pass) team.meet();  // until the first thread knows the tokens to go on with
            embed();
            for (int i = 0; i < model.layers; i++) layer(model.layer[i]);
            head();
            if (batch.temperature) draw_tokens(pass);
            if (!thread) choose(pass);
        }
    }

    void meet(int phase) {
        team.meet();
        if (thread) return;
        double time = now();
        scratch.seconds[phase] += time - phase_began;
        phase_began = time;
    }

    template <class Function>
    void for_own_rows(int rows, Function function) {
        for (int row = share(rows, thread, team.threads); row < share(rows, thread + 1, team.threads); row++) function(row);
    }

    // Rows that the next product reads: a few by every thread for itself, from `own_copy` on, many by all together.
    template <class Function>
    void prepare_rows(int rows, int phase, Function function) {
        if (rows <= ALONE) {
            for (int row = 0; row < rows; row++) function(row);
        } else {
            for_own_rows(rows, function);
            meet(phase);
        }
    }

    int own_copy(int rows) const { return rows <= ALONE ? thread * ALONE : 0; }

    void embed() {
        for_own_rows(batch.tokens, [&](int row) {
            const bf16* from = model.embedding + int64_t(batch.token[row]) * model.hidden;
            float* to = scratch.residual + int64_t(row) * model.width;
            for (int i = 0; i < model.hidden; i++) to[i] = widen(from[i]) * model.embedding_scale;
            for (int i = model.hidden; i < model.width; i++) to[i] = 0;
        });
        meet(0);
    }

    void layer(const Layer& l) {
        int rows = batch.tokens, stride = l.qkv.outputs;
        int attended = (model.heads * model.head_dim + PANEL - 1) / PANEL * PANEL;
        int gated = l.gate_up.outputs / 2;
        normalise(rows, nullptr, l.attention_norm, l.qkv);
        multiply(team, thread, l.qkv, normed(l.qkv, rows), rows, Store{scratch.qkv, stride});
        meet(1);
        if (!only_decodes()) {  // a decode's key is needed by nobody else in this step
            for_own_rows(batch.tokens, [&](int row) { rotate_and_store(l, row); });
            meet(2);
        }
        attention(l, attended);
        meet(3);
        round_rows(rows, l.out, scratch.attended, attended, 4);
        AddToResidual add{scratch.residual, model.width, model.residual_scale};
        multiply(team, thread, l.out, input(l.out, scratch.attended, attended, rows), rows, add);
        meet(4);
        normalise(rows, nullptr, l.mlp_norm, l.gate_up);
        multiply(team, thread, l.gate_up, normed(l.gate_up, rows), rows, Gate{scratch.gated, gated});
        meet(5);
        round_rows(rows, l.down, scratch.gated, gated, 6);
        multiply(team, thread, l.down, input(l.down, scratch.gated, gated, rows), rows, add);
        meet(6);
    }

    void head() {
        int rows = batch.wanted;
        float* best = scratch.thread_best + int64_t(thread) * rows;
        int32_t* best_at = scratch.thread_best_at + int64_t(thread) * rows;
        for (int r = 0; r < rows; r++) best[r] = -INFINITY, best_at[r] = 0;
        Head likeliest{batch.logits, model.head.outputs, model.vocabulary, model.logit_scale, best, best_at};
        if (batch.logits || !model.screen.error) {
            normalise(rows, batch.wanted_row, model.final_norm, model.head);
            multiply(team, thread, model.head, normed(model.head, rows), rows, likeliest);
        } else {
            normalise(rows, batch.wanted_row, model.final_norm, model.screen.rounded);
            screen(rows);
            review(rows, normed(model.head, rows), likeliest);
        }
        meet(7);
    }

    // Bounds for all outputs, from the rounded head.
    void screen(int rows) {
        const Screen& s = model.screen;
        float* floor = scratch.floor + int64_t(thread) * rows;
        for (int r = 0; r < rows; r++) floor[r] = -INFINITY;
        Input x = normed(s.rounded, rows), exact = normed(model.head, rows);
        RowBounds* own = scratch.row_bounds + int64_t(thread) * rows;
        for (int r = 0; r < rows; r++)
            own[r] = row_bounds((const bf16*)(exact.rows + r * exact.stride), (const uint8_t*)(x.rows + r * x.stride),
                                x.scales[r], model.width);
        multiply(team, thread, s.rounded, x, rows, Bounds{s, own, scratch.upper, rows, floor});
        meet(7);
        for (int t = 0; t < team.threads; t++)  // others may read what is raised here: it is raised to the same height by all
            for (int r = 0; r < rows; r++) floor[r] = fmaxf(floor[r], scratch.floor[int64_t(t) * rows + r]);
    }

    // The true head, where it may hold the likeliest.
    void review(int rows, const Input& input, const Head& likeliest) {
        const float* floor = scratch.floor + int64_t(thread) * rows;
        int panels = model.head.outputs / PANEL;
        for (Piece piece; team.take(thread, panels, 16, piece);)
            for (int panel = piece.first; panel < piece.last; panel++)
                for (int row = 0; row < rows; row++)
                    if (scratch.upper[int64_t(panel) * rows + row] >= floor[row])
                        tile<Bf16, 1>(model.head, input, row, panel, nullptr, likeliest);
    }

    bool drawn(int row) const { return batch.temperature && batch.temperature[row] > 0; }

    void draw_tokens(int pass) {
        int rows = batch.wanted;
        for_own_rows(rows, [&](int row) {
            if (!drawn(row)) return;
            float* logits = batch.logits + int64_t(row) * model.head.outputs;
            Drawn one = draw(logits, model.vocabulary, batch.temperature[row], uniform(batch.seed[row], batch.position[row] + pass));
            batch.best[int64_t(pass) * rows + row] = one.logprob;
            batch.best_at[int64_t(pass) * rows + row] = one.token;
        });
        meet(7);
    }

    // The likeliest of what the threads found where nothing was drawn, and the next pass's input.
    void choose(int pass) {
        int rows = batch.wanted;
        float* best = batch.best + int64_t(pass) * rows;
        int32_t* best_at = batch.best_at + int64_t(pass) * rows;
        for (int r = 0; r < rows; r++) {
            if (drawn(r)) continue;
            best[r] = -INFINITY;
            best_at[r] = 0;
            for (int t = 0; t < team.threads; t++) {
                float value = scratch.thread_best[int64_t(t) * rows + r];
                int32_t at = scratch.thread_best_at[int64_t(t) * rows + r];
                bool earlier = value == best[r] && at < best_at[r];
                if (value > best[r] || earlier) best[r] = value, best_at[r] = at;
            }
        }
        if (pass + 1 == batch.passes) return;
        for (int s = 0; s < batch.sequences; s++) {
            batch.token[s] = best_at[s];
            batch.start[s]++;
        }
    }

    // Residual rows (those in `which`, or the first `rows`) to what `next` multiplies.
    void normalise(int rows, const int32_t* which, const float* weight, const Linear& next) {
        prepare_rows(rows, 0, [&](int row) {
            const float* x = scratch.residual + int64_t(which ? which[row] : row) * model.width;
            bf16* to = scratch.normed + int64_t(own_copy(rows) + row) * model.width;
            rms_norm(x, weight, to, model.hidden, model.width, model.epsilon);
            if (next.scales) round_row(own_copy(rows) + row, to, model.width, next);
        });
    }

    void round_row(int to, const bf16* from, int width, const Linear& next) {
        scratch.rounded_scales[to] = quantise(from, scratch.rounded + int64_t(to) * 4 * next.groups, width);
    }

    void round_rows(int rows, const Linear& next, const bf16* from, int width, int phase) {
        if (!next.scales) return;
        prepare_rows(rows, phase, [&](int row) { round_row(own_copy(rows) + row, from + int64_t(row) * width, width, next); });
    }

    Input input(const Linear& linear, const bf16* from, int width, int rows) const {
        if (!linear.scales) return {(const char*)from, 2 * int64_t(width), nullptr};
        int64_t first = own_copy(rows), stride = 4 * int64_t(linear.groups);
        return {(const char*)scratch.rounded + first * stride, stride, scratch.rounded_scales + first};
    }

    // What `normalise` made for `linear`.
    Input normed(const Linear& linear, int rows) const {
        return input(linear, scratch.normed + int64_t(own_copy(rows)) * model.width, model.width, rows);
    }

    bool only_decodes() const { return batch.tokens == batch.sequences; }

    void rotate_and_store(const Layer& l, int row) {
        int sequence = 0;
        while (batch.first_row[sequence + 1] <= row) sequence++;
        for (int h = 0; h < model.kv_heads; h++) rotate_and_store(l, sequence, row, h);
    }

    // One key head of a token and the query heads that look at it.
    void rotate_and_store(const Layer& l, int sequence, int row, int kv_head) {
        int dim = model.head_dim, group = model.heads / model.kv_heads;
        int position = batch.start[sequence] + row - batch.first_row[sequence];
        const float* rope = l.rotates ? batch.rope + int64_t(position) * dim : nullptr;
        bf16* heads = scratch.qkv + int64_t(row) * l.qkv.outputs;
        bf16* key = heads + (model.heads + kv_head) * dim;
        const bf16* value = key + model.kv_heads * dim;
        for (int h = kv_head * group; h < (kv_head + 1) * group; h++)
            prepare_head(heads + h * dim, dim, l.query_norm, model.epsilon, rope);
        prepare_head(key, dim, l.key_norm, model.epsilon, rope);
        int64_t at = int64_t(batch.tables[batch.table_at[sequence] + position / BLOCK]) * model.kv_heads + kv_head;
        if (model.int8_cache)
            store<Int8Cache>(l, key, value, at, position % BLOCK);
        else
            store<Bf16Cache>(l, key, value, at, position % BLOCK);
    }

    // `at`: which block of which head.
    template <class Cache>
    void store(const Layer& l, const bf16* key, const bf16* value, int64_t at, int offset) {
        int dim = model.head_dim;
        Cache::store_key(key, l.keys + at * Cache::key_bytes(dim), offset, dim);
        Cache::store_value(value, l.values + at * Cache::value_bytes(dim), offset, dim);
    }

    // A piece of work: up to TILE_TOKENS tokens of one sequence with one key head. Late tokens, the dearest, come first.
    void attention(const Layer& l, int stride) {
        int taken = team.take(), before = 0;
        for (int s = 0; s < batch.sequences; s++) {
            int tokens = batch.first_row[s + 1] - batch.first_row[s];
            int tiles = (tokens + TILE_TOKENS - 1) / TILE_TOKENS, pieces = tiles * model.kv_heads;
            for (; taken < before + pieces; taken = team.take()) {
                int piece = taken - before, tile = tiles - 1 - piece / model.kv_heads;
                int first = tile * TILE_TOKENS, last = first + TILE_TOKENS < tokens ? first + TILE_TOKENS : tokens;
                if (only_decodes()) rotate_and_store(l, s, s, piece % model.kv_heads);
                if (model.int8_cache)
                    attend_tile<Int8Cache>(l, s, piece % model.kv_heads, first, last, stride);
                else
                    attend_tile<Bf16Cache>(l, s, piece % model.kv_heads, first, last, stride);
            }
            before += pieces;
        }
    }

    template <class Cache>
    void attend_tile(const Layer& l, int sequence, int kv_head, int first, int last, int stride) {
        int dim = model.head_dim, group = model.heads / model.kv_heads;
        int64_t key_bytes = Cache::key_bytes(dim), value_bytes = Cache::value_bytes(dim);
        PagedHead head{l.keys + kv_head * key_bytes, l.values + kv_head * value_bytes, key_bytes * model.kv_heads,
                       value_bytes * model.kv_heads, batch.tables + batch.table_at[sequence]};
        AttentionRow rows[MOST_ATTENDING];
        int count = 0;
        for (int token = first; token < last; token++) {
            int64_t row = batch.first_row[sequence] + token;
            int seen = batch.start[sequence] + token + 1;
            for (int h = kv_head * group; h < (kv_head + 1) * group; h++) {
                rows[count++] = {scratch.qkv + row * l.qkv.outputs + h * dim, scratch.attended + row * stride + h * dim,
                                 l.window && seen > l.window ? seen - l.window : 0, seen};
                if (count < MOST_ATTENDING) continue;
                attend<Cache>(count, rows, head, dim, model.attention_scale);
                count = 0;
            }
        }
        if (count) attend<Cache>(count, rows, head, dim, model.attention_scale);
    }
};

extern "C" void step(const Model* model, const Scratch* scratch, const Batch* batch) {
#pragma omp parallel num_threads(batch->threads)
    {
#pragma omp single
        scratch->team->threads = omp_get_num_threads();  // which may be fewer: waiting for those that never come is for ever
        Worker worker{*model, *scratch, *batch, *scratch->team, omp_get_thread_num(), 0};
        worker.run();
    }
}

// [outputs][inputs] in rows of 32 outputs to the order that `tile` reads: groups of 4 bytes, outputs side by side.
extern "C" void pack(const char* weights, char* panels, int32_t outputs, int64_t row_bytes) {
#pragma omp parallel for
    for (int panel = 0; panel < outputs / PANEL; panel++)
        for (int64_t group = 0; group < row_bytes / 4; group++)
            for (int i = 0; i < PANEL; i++)
                memcpy(panels + ((panel * (row_bytes / 4) + group) * PANEL + i) * 4,
                       weights + (int64_t(panel) * PANEL + i) * row_bytes + 4 * group, 4);
}
