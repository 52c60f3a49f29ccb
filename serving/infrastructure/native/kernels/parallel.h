// One team of threads for a whole step: they share out the work of each phase and meet at a barrier between phases.
//
// A step has hundreds of phases of some ten microseconds. Starting threads for each would cost as much as the work, and
// fixed shares would make everybody wait for a thread that the system has put aside for a moment. So each begins with a
// share of its own, whose parts lie side by side in memory, and takes from the others' when that is done.
#pragma once

#include <immintrin.h>
#include <sched.h>

#include <atomic>
#include <cstdint>

constexpr int MOST_THREADS = 64;

inline int share(int count, int thread, int threads) { return int(int64_t(count) * thread / threads); }

struct alignas(64) Queue {
    std::atomic<int> taken;
};

struct Piece {
    int first, last;
};

struct Team {  // zeroed by the caller; on cache lines of their own, or every arrival would disturb who takes work
    alignas(64) std::atomic<int> arrived;
    alignas(64) std::atomic<int> generation;
    alignas(64) std::atomic<int> next;
    alignas(64) int threads;

    Queue shares[MOST_THREADS];

    // The next of this phase's work, in order, whoever takes it.
    int take() { return next.fetch_add(1, std::memory_order_relaxed); }

    // Up to `size` neighbours of `count` pieces, from the thread's own share first; false when all are taken.
    bool take(int thread, int count, int size, Piece& piece) {
        for (int i = 0; i < threads; i++) {
            int owner = thread + i < threads ? thread + i : thread + i - threads;
            int first = share(count, owner, threads), last = share(count, owner + 1, threads);
            std::atomic<int>& taken = shares[owner].taken;
            if (taken.load(std::memory_order_relaxed) >= last - first) continue;
            first += taken.fetch_add(size, std::memory_order_relaxed);
            if (first >= last) continue;
            piece = {first, first + size < last ? first + size : last};
            return true;
        }
        return false;
    }

    // Wait until all have arrived; then nothing of the next phase is taken.
    void meet() {
        int before = generation.load(std::memory_order_relaxed);
        if (arrived.fetch_add(1, std::memory_order_acq_rel) == threads - 1) {
            arrived.store(0, std::memory_order_relaxed);
            next.store(0, std::memory_order_relaxed);
            for (int i = 0; i < threads; i++) shares[i].taken.store(0, std::memory_order_relaxed);
            generation.store(before + 1, std::memory_order_release);
            return;
        }
        for (int spins = 0; generation.load(std::memory_order_acquire) == before; spins++) {
            if (spins < SPINS)
                _mm_pause();
            else
                sched_yield();  // somebody else needs this core, perhaps the very thread that we wait for
        }
    }

    static constexpr int SPINS = 500;  // some ten microseconds: more would be lost at every barrier when both threads share a core
};
