// Stacks, and the switch from one to another.
#pragma once

#include "sanitizer.hpp"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>
#include <unistd.h>

#if !defined(__x86_64__) && !defined(EMULATION_UCONTEXT)
#define EMULATION_UCONTEXT
#endif

#ifdef EMULATION_UCONTEXT
#include <ucontext.h>
#else
// Saves what a callee must keep on the stack that is left, and takes it from the one that is entered. Not the control words of
// the floating point units, which nothing here changes.
extern "C" __attribute__((visibility("hidden"))) void emulation_switch(void **left, void *entered);
__asm__(R"(
    .text
    .p2align 4
    .globl emulation_switch
    .hidden emulation_switch
    .type emulation_switch, @function
emulation_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size emulation_switch, . - emulation_switch
)");
#endif

namespace emulation {

[[noreturn]] inline void give_up(const char *why) {
    std::fprintf(stderr, "emulated driver: %s\n", why);
    std::abort();
}

// Where a thread of execution stands while another one runs.
class Context {
public:
    // To start in `entry`, which never returns, at the upper end of a stack.
    EMULATION_UNSEEN void start(char *low, char *high, void (*entry)()) {
#ifdef EMULATION_UCONTEXT
        getcontext(&saved);
        saved.uc_stack.ss_sp = low;
        saved.uc_stack.ss_size = size_t(high - low);
        saved.uc_link = nullptr;
        makecontext(&saved, entry, 0);
#else
        (void)low;
        // What `emulation_switch` takes: six registers and an address; above them the place of the entry's own return address,
        // so that its stack is aligned as after a call.
        void **top = reinterpret_cast<void **>(uintptr_t(high) & ~uintptr_t(15));
        *--top = nullptr;
        *--top = reinterpret_cast<void *>(entry);
        for (int registers = 0; registers < 6; ++registers) *--top = nullptr;
        saved = top;
#endif
    }

    // Leaves the caller in this one.
    EMULATION_UNSEEN void leave_for(Context &next) {
#ifdef EMULATION_UCONTEXT
        swapcontext(&saved, &next.saved);
#else
        emulation_switch(&saved, next.saved);
#endif
    }

private:
#ifdef EMULATION_UCONTEXT
    ucontext_t saved;
#else
    void *saved = nullptr;
#endif
};

// Memory of a block: a stack for each thread and the shared memory, with a page that cannot be touched below each and at the
// end.
class BlockMemory {
public:
#if EMULATION_TSAN
    static constexpr size_t STACK_BYTES = 128 << 10;
#else
    static constexpr size_t STACK_BYTES = 64 << 10;
#endif
    static constexpr size_t SHARED_BYTES = 48 << 10;

    explicit BlockMemory(unsigned stacks) : stacks(stacks) {
        void *at = mmap(nullptr, bytes(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (at == MAP_FAILED) give_up("no address space for the stacks of a block");
        start = static_cast<char *>(at);
        bool opened = mprotect(shared(), SHARED_BYTES, PROT_READ | PROT_WRITE) == 0;
        for (unsigned i = 0; i < stacks; ++i)
            opened = opened && mprotect(stack_low(i), STACK_BYTES, PROT_READ | PROT_WRITE) == 0;
        if (!opened) give_up("no memory for the stacks of a block");
    }

    ~BlockMemory() { munmap(start, bytes()); }
    BlockMemory(const BlockMemory &) = delete;
    BlockMemory &operator=(const BlockMemory &) = delete;

    EMULATION_UNSEEN char *stack_low(unsigned index) const { return start + index * (page() + STACK_BYTES) + page(); }

    // The stacks' ends are apart by some lines modulo a page: in the same sets of the cache they would evict each other.
    EMULATION_UNSEEN char *stack_high(unsigned index) const { return stack_low(index) + STACK_BYTES - index % 32 * 128; }

    EMULATION_UNSEEN char *shared() const { return stack_low(stacks); }

private:
    EMULATION_UNSEEN static size_t page() {
        static const size_t bytes = size_t(sysconf(_SC_PAGESIZE));
        return bytes;
    }

    size_t bytes() const { return stacks * (page() + STACK_BYTES) + page() + SHARED_BYTES + page(); }

    unsigned stacks;
    char *start = nullptr;
};

} // namespace emulation
