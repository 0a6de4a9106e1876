// What ThreadSanitizer is told about emulated threads; nothing at all when it is not there.
//
// It sees neither fibers nor fences. Fibers are announced, and switched without the order that a switch would imply: two
// threads of a block are ordered by the barriers that they meet at, and by nothing else.
//
// Fences: each emulated thread that loads or stores relaxed has, beside its own view of what happened before it, the two that
// the C++ memory model speaks of. `acquired`: what its relaxed loads have seen, which its next fence makes its own.
// `released`: its own view at its last fence, which is what its relaxed stores publish. Each is a fiber that never runs, and
// serves as a clock.
#pragma once

#if defined(__SANITIZE_THREAD__)
#define EMULATION_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define EMULATION_TSAN 1
#endif
#endif
#ifndef EMULATION_TSAN
#define EMULATION_TSAN 0
#endif

#if EMULATION_TSAN
#include <initializer_list>

extern "C" {
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
void __tsan_acquire(void *at);
void __tsan_release(void *at);
}
// For the machinery below the emulated threads: all threads of a block work on it, in turns that ThreadSanitizer is not to take
// for order. Nor may it count calls and returns across a switch.
#if defined(__clang__)
#define EMULATION_UNSEEN __attribute__((disable_sanitizer_instrumentation, noinline))
#else
#define EMULATION_UNSEEN __attribute__((no_sanitize("thread"), noinline))
#endif
#else
#define EMULATION_UNSEEN
#endif

namespace emulation {

#if EMULATION_TSAN

constexpr unsigned WITHOUT_ORDER = 1;

// One emulated thread, or an OS thread that runs some.
class Seen {
public:
    EMULATION_UNSEEN void is_this_os_thread() { self = __tsan_get_current_fiber(); }

    // Ordered behind what the caller has done so far.
    EMULATION_UNSEEN void create() {
        self = __tsan_create_fiber(0);
        acquired = released = nullptr;
    }

    // The caller is another one.
    EMULATION_UNSEEN void destroy() {
        for (void *fiber : {acquired, released, self})
            if (fiber) __tsan_destroy_fiber(fiber);
        self = acquired = released = nullptr;
    }

    // Directly before the switch itself.
    EMULATION_UNSEEN void runs_next() { __tsan_switch_to_fiber(self, WITHOUT_ORDER); }

    // As if this one did it, of another one that runs.
    EMULATION_UNSEEN void release_for(Seen &running, void *at) {
        running.as(self, __tsan_release, at);
    }

    EMULATION_UNSEEN void loaded(const void *at) {
        if (!acquired) acquired = __tsan_create_fiber(0);
        as(acquired, __tsan_acquire, const_cast<void *>(at));
    }

    // Before the store itself.
    EMULATION_UNSEEN void stores(void *at) {
        if (released) as(released, __tsan_release, at);
    }

    EMULATION_UNSEEN void fences() {
        if (acquired) {
            as(acquired, __tsan_release, &from_acquired);
            __tsan_acquire(&from_acquired);
        }
        if (released) {
            __tsan_release(&to_released);
            as(released, __tsan_acquire, &to_released);
        } else {
            released = __tsan_create_fiber(0);
        }
    }

private:
    EMULATION_UNSEEN void as(void *view, void (*does)(void *), void *at) {
        __tsan_switch_to_fiber(view, WITHOUT_ORDER);
        does(at);
        __tsan_switch_to_fiber(self, WITHOUT_ORDER);
    }

    void *self = nullptr, *acquired = nullptr, *released = nullptr;
    char from_acquired = 0, to_released = 0;
};

inline void order_acquire(void *at) { __tsan_acquire(at); }
inline void order_release(void *at) { __tsan_release(at); }

#else

class Seen {
public:
    void is_this_os_thread() {}
    void create() {}
    void destroy() {}
    void runs_next() {}
    void release_for(Seen &, void *) {}
    void loaded(const void *) {}
    void stores(void *) {}
    void fences() { __atomic_thread_fence(__ATOMIC_ACQ_REL); }
};

inline void order_acquire(void *) {}
inline void order_release(void *) {}

#endif

} // namespace emulation
