// A block of emulated threads on one OS thread: fibers that take turns, and what they wait for.
//
// A thread that waits at a barrier or for the others of its warp leaves the queue of those that can run; the last one that
// arrives puts all of them back. The queue is first come, first served: between two turns of a thread every other one that can
// run has had a turn.
#pragma once

#include "fiber.hpp"

#include <csignal>
#include <ctime>
#include <functional>
#include <memory>
#include <mutex>
#include <sched.h>
#include <type_traits>
#include <vector>

namespace emulation {

constexpr unsigned WARP_LANES = 32;
constexpr unsigned BLOCK_THREADS_MAX = 64;

struct Launch {
    const char *name;
    unsigned blocks, threads;
    // What each thread does: the kernel with its arguments.
    std::function<void()> run;
    // What the module is linked with, see `linker.hpp`.
    const void *linked = nullptr;
    // Asked after so many turns in a block: how many more until the next question; none: the block is given up.
    std::function<uint64_t(uint64_t turns)> more_turns;
    // Told when a thread reaches where no memory of any device's is; its block is given up then. Takes no lock.
    std::function<void()> faults;
    // For ThreadSanitizer: who waits for the launch is ordered behind all of its threads.
    char ended = 0;
};

struct Thread;
class Block;

struct Queue {
    Thread *first = nullptr, *last = nullptr;

    void push(Thread &thread);
    Thread *pop();
    void append(Queue &other);
};

enum class Meet : unsigned char { SyncBlock, SyncWarp, Shuffle, Ballot };

inline const char *name_of(Meet meet) {
    static const char *const NAMES[] = {"sync_block", "sync_warp", "a shuffle", "a ballot"};
    return NAMES[unsigned(meet)];
}

// Where a number of threads wait for each other, again and again.
struct Meeting {
    unsigned expected, arrived, turn;
    Meet kind;
    Queue waiting;
    // Two, used in turn: whoever arrives at the next meeting may do so before another one has left this one.
    char order[2];
};

struct Warp {
    Meeting meeting;
    // What the lanes show each other at a meeting; two for the same reason.
    uint32_t values[2][WARP_LANES];
};

struct Thread {
    Context context;
    Seen seen;
    Thread *next;
    Block *block;
    Warp *warp;
    const Meeting *waits_at;
    unsigned index, lane;
    size_t shared_bytes;
    // Of the block's rounds the one in which it last looked for work in vain.
    uint64_t looked_in;
    bool finished;
};

// Fibers never move to another OS thread, so that the compiler may keep the address of this.
inline __thread Thread *current __attribute__((tls_model("initial-exec")));

EMULATION_UNSEEN inline void Queue::push(Thread &thread) {
    thread.next = nullptr;
    (last ? last->next : first) = &thread;
    last = &thread;
}

EMULATION_UNSEEN inline Thread *Queue::pop() {
    Thread *thread = first;
    if (thread && !(first = thread->next)) last = nullptr;
    return thread;
}

EMULATION_UNSEEN inline void Queue::append(Queue &other) {
    if (!other.first) return;
    (last ? last->next : first) = other.first;
    last = other.last;
    other = Queue{};
}

class Block {
public:
    Block() : memory(BLOCK_THREADS_MAX) {}

    // Runs a block of the launch to its end, on the calling OS thread. False: it was given up.
    EMULATION_UNSEEN bool run(Launch &of, unsigned index) {
        launch = &of;
        block_index = index;
        shared_filled = 0;
        turns = 0;
        finished = 0;
        round = 1;
        least_looks = ~0u;
        given_up = false;
        ready = Queue{};
        turns_asked = turns_left = launch->more_turns(0);
        if (turns_left == 0) return false;
        start_meetings();
        os_thread.seen.is_this_os_thread();
        for (unsigned i = 0; i < launch->threads; ++i) start_thread(i);
        enter(os_thread, *ready.pop());
        current = nullptr;
        for (unsigned i = 0; i < launch->threads; ++i) {
            if (!threads[i].finished) threads[i].seen.release_for(os_thread.seen, &launch->ended);
            threads[i].seen.destroy();
        }
        return !given_up;
    }

    // The calling thread waits until all have come. `orders`: what they did before happens before what they do then.
    EMULATION_UNSEEN void meet(Meeting &meeting, Meet kind, bool orders) {
        if (meeting.arrived == 0) meeting.kind = kind;
        else if (meeting.kind != kind) differ(meeting, kind);
        char *order = &meeting.order[meeting.turn & 1];
        if (orders) order_release(order);
        if (++meeting.arrived == meeting.expected) {
            meeting.arrived = 0;
            ++meeting.turn;
            for (Thread *thread = meeting.waiting.first; thread; thread = thread->next) thread->waits_at = nullptr;
            ready.append(meeting.waiting);
        } else {
            current->waits_at = &meeting;
            meeting.waiting.push(*current);
            next_turn();
        }
        if (orders) order_acquire(order);
    }

    EMULATION_UNSEEN void sync() { meet(all, Meet::SyncBlock, true); }

    // The calling thread has looked for something in vain, `looks` times in a row; the others have their turns. Once none of
    // them has anything to do, the OS thread rests.
    EMULATION_UNSEEN void look_again(unsigned looks) {
        if (current->looked_in == round) {
            if (all_quiet()) rest();
            ++round;
            least_looks = ~0u;
        }
        current->looked_in = round;
        if (looks < least_looks) least_looks = looks;
        ready.push(*current);
        next_turn();
    }

    // The place of `bytes` of shared memory that this thread declares next: the same for all threads of the block.
    EMULATION_UNSEEN void *declare_shared(size_t bytes, size_t alignment) {
        size_t start = (current->shared_bytes + alignment - 1) & ~(alignment - 1);
        current->shared_bytes = start + bytes;
        if (current->shared_bytes > BlockMemory::SHARED_BYTES) complain("a block declares more than 48 KiB of shared memory");
#if !EMULATION_TSAN
        // Nothing is there at first on a GPU; with something here, a kernel that counts on zeros is seen.
        for (; shared_filled < current->shared_bytes; ++shared_filled) memory.shared()[shared_filled] = char(0xa5);
#endif
        return memory.shared() + start;
    }

    // From now on an access to the first 64 KiB by an emulated thread is a fault of its device; any other ends the process.
    static void watch_for_faults() {
        struct sigaction action {};
        action.sa_sigaction = on_fault;
        // The handler does not return where a block is given up.
        action.sa_flags = SA_SIGINFO | SA_NODEFER;
        sigaction(SIGSEGV, &action, nullptr);
    }

    EMULATION_UNSEEN const Launch &of() const { return *launch; }
    EMULATION_UNSEEN unsigned index() const { return block_index; }

private:
    EMULATION_UNSEEN void start_meetings() {
        all = Meeting{};
        all.expected = launch->threads;
        for (unsigned first = 0; first < launch->threads; first += WARP_LANES) {
            Meeting &of_warp = warps[first / WARP_LANES].meeting;
            of_warp = Meeting{};
            of_warp.expected = launch->threads - first < WARP_LANES ? launch->threads - first : WARP_LANES;
        }
    }

    EMULATION_UNSEEN void start_thread(unsigned index) {
        Thread &thread = threads[index];
        thread.block = this;
        thread.warp = &warps[index / WARP_LANES];
        thread.waits_at = nullptr;
        thread.index = index;
        thread.lane = index % WARP_LANES;
        thread.shared_bytes = 0;
        thread.looked_in = 0;
        thread.finished = false;
        thread.context.start(memory.stack_low(index), memory.stack_high(index), run_thread);
        thread.seen.create();
        ready.push(thread);
    }

    EMULATION_UNSEEN static void run_thread() {
        Block &block = *current->block;
        block.launch->run();
        order_release(&block.launch->ended);
        current->finished = true;
        if (++block.finished == block.launch->threads) enter(*current, block.os_thread);
        block.next_turn();
    }

    // To the first thread that can run. Returns when it is the caller's turn again.
    EMULATION_UNSEEN void next_turn() {
        if (--turns_left == 0) ask_for_turns();
        Thread *next = ready.pop();
        if (!next) complain("deadlock, no thread can run any more");
        if (next != current) enter(*current, *next);
    }

    EMULATION_UNSEEN static void enter(Thread &left, Thread &entered) {
        current = &entered;
        entered.seen.runs_next();
        left.context.leave_for(entered.context);
    }

    EMULATION_UNSEEN void ask_for_turns() {
        turns += turns_asked;
        turns_asked = turns_left = launch->more_turns(turns);
        if (turns_left > 0) return;
        // The threads stay where they are, and nothing of theirs is run again.
        given_up = true;
        enter(*current, os_thread);
    }

    EMULATION_UNSEEN static void on_fault(int signal, siginfo_t *info, void *) {
        constexpr uintptr_t FIRST_PAGES = 1 << 16;
        if (!current || reinterpret_cast<uintptr_t>(info->si_addr) >= FIRST_PAGES) {
            std::signal(signal, SIG_DFL);
            return;
        }
        Block &block = *current->block;
        block.launch->faults();
        block.given_up = true;
        enter(*current, block.os_thread);
    }

    // Whether every thread has looked in vain this round, or waits for one that has.
    EMULATION_UNSEEN bool all_quiet() const {
        for (unsigned i = 0; i < launch->threads; ++i) {
            const Thread &thread = threads[i];
            if (thread.looked_in != round && !thread.waits_at && !thread.finished) return false;
        }
        return true;
    }

    // The machine has few cores, and the host's threads need them as much.
    EMULATION_UNSEEN void rest() const {
        constexpr unsigned SLEEPS = 256, SLEEPS_LONGER = 4096;
        if (least_looks < SLEEPS || least_looks == ~0u) {
            sched_yield();
        } else {
            timespec pause{0, least_looks < SLEEPS_LONGER ? 20'000 : 50'000};
            nanosleep(&pause, nullptr);
        }
    }

    [[noreturn]] void differ(const Meeting &meeting, Meet kind) const {
        std::fprintf(stderr, "emulated driver: thread %u comes to %s where others of its warp or block are at %s\n",
                     current->index, name_of(kind), name_of(meeting.kind));
        complain("threads that must do the same do not");
    }

    [[noreturn]] void complain(const char *what) const {
        std::fprintf(stderr, "emulated driver: kernel %s, block %u of %u, %u threads: %s\n", launch->name, block_index,
                     launch->blocks, launch->threads, what);
        for (unsigned i = 0; i < launch->threads; ++i) {
            const Thread &thread = threads[i];
            const char *state = thread.finished ? "has finished" : thread.waits_at ? "waits at " : "can run";
            std::fprintf(stderr, "  thread %u %s%s\n", i, state, thread.waits_at ? name_of(thread.waits_at->kind) : "");
        }
        std::abort();
    }

    BlockMemory memory;
    Launch *launch = nullptr;
    unsigned block_index = 0, finished = 0, least_looks = 0;
    uint64_t turns = 0, turns_asked = 0, turns_left = 0, round = 0;
    size_t shared_filled = 0;
    bool given_up = false;
    Queue ready;
    Meeting all{};
    Thread os_thread{};
    Warp warps[BLOCK_THREADS_MAX / WARP_LANES]{};
    Thread threads[BLOCK_THREADS_MAX]{};
};

// Blocks that are not in use: mapping the stacks takes longer than most kernels run.
class BlockPool {
public:
    using Owned = std::unique_ptr<Block, void (*)(Block *)>;

    static Owned take() {
        std::lock_guard<std::mutex> lock(mutex());
        if (unused().empty()) return Owned(new Block, give_back);
        Owned block(unused().back(), give_back);
        unused().pop_back();
        return block;
    }

private:
    static void give_back(Block *block) {
#if EMULATION_TSAN
        // Two blocks that use the same memory in turn would pass for two that share it, or for two in order.
        delete block;
#else
        std::lock_guard<std::mutex> lock(mutex());
        unused().push_back(block);
#endif
    }

    // These outlive `main`: threads of streams may still use them then.
    static std::mutex &mutex() {
        static std::mutex &lives_on = *new std::mutex;
        return lives_on;
    }

    static std::vector<Block *> &unused() {
        static std::vector<Block *> &lives_on = *new std::vector<Block *>;
        return lives_on;
    }
};

} // namespace emulation
