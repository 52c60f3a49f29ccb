// One team of threads for a whole step: they share out each phase's work by a counter and meet at a barrier between phases.
//
// A step has hundreds of phases of some ten microseconds. Starting threads for each would cost as much as the work, and
// fixed shares would make everybody wait for a thread that the system has put aside for a moment.
#pragma once

#include <immintrin.h>
#include <sched.h>

#include <atomic>

struct Team {  // zeroed by the caller; on cache lines of their own, or every arrival would disturb who takes work
    alignas(64) std::atomic<int> arrived;
    alignas(64) std::atomic<int> generation;
    alignas(64) std::atomic<int> next;
    alignas(64) int threads;

    // The first of the next `count` pieces of this phase's work.
    int take(int count) { return next.fetch_add(count, std::memory_order_relaxed); }

    // Wait until all have arrived; the counter starts anew.
    void meet() {
        int before = generation.load(std::memory_order_relaxed);
        if (arrived.fetch_add(1, std::memory_order_acq_rel) == threads - 1) {
            arrived.store(0, std::memory_order_relaxed);
            next.store(0, std::memory_order_relaxed);
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
