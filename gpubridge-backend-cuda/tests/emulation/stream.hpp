// Streams: queues that a thread each works through, in order. Events: marks in them.
#pragma once

#include "results.hpp"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

namespace emulated {

using Work = std::function<void()>;

class Stream : public std::enable_shared_from_this<Stream> {
public:
    // `blocking`: it and the null stream wait for each other.
    static std::shared_ptr<Stream> create(bool blocking) {
        auto stream = std::make_shared<Stream>(blocking);
        // The thread keeps the stream alive until it has done what was asked of it.
        std::thread([stream] { stream->work(); }).detach();
        return stream;
    }

    explicit Stream(bool blocking) : blocking(blocking) {}

    // How many pieces of work it has been given, this one included.
    uint64_t push(Work work) {
        std::lock_guard<std::mutex> lock(mutex);
        queue.push_back(std::move(work));
        changed.notify_all();
        return ++issued;
    }

    // Ends once its work is done, without anybody waiting for it.
    void close() {
        std::lock_guard<std::mutex> lock(mutex);
        closed = true;
        changed.notify_all();
    }

    bool is_idle() {
        std::lock_guard<std::mutex> lock(mutex);
        return finished == issued;
    }

    uint64_t issued_so_far() {
        std::lock_guard<std::mutex> lock(mutex);
        return issued;
    }

    void wait_for(uint64_t count) {
        std::unique_lock<std::mutex> lock(mutex);
        changed.wait(lock, [&] { return finished >= count; });
    }

    void wait() { wait_for(issued_so_far()); }

    const bool blocking;

private:
    void work() {
        std::unique_lock<std::mutex> lock(mutex);
        for (;;) {
            changed.wait(lock, [&] { return closed || !queue.empty(); });
            if (queue.empty()) return;
            {
                Work next = std::move(queue.front());
                queue.pop_front();
                lock.unlock();
                next();
                // What it holds goes before the others learn that it is done.
            }
            lock.lock();
            ++finished;
            changed.notify_all();
        }
    }

    std::mutex mutex;
    std::condition_variable changed;
    std::deque<Work> queue;
    uint64_t issued = 0, finished = 0;
    bool closed = false;
};

class Event {
public:
    explicit Event(bool timed) : timed(timed) {}

    // The mark that the work of a stream is to reach.
    uint64_t record() {
        std::lock_guard<std::mutex> lock(mutex);
        return ++recorded;
    }

    void reach(uint64_t mark) {
        std::lock_guard<std::mutex> lock(mutex);
        if (mark > reached) reached = mark;
        at = std::chrono::steady_clock::now();
        changed.notify_all();
    }

    bool is_reached() {
        std::lock_guard<std::mutex> lock(mutex);
        return reached == recorded;
    }

    uint64_t last_mark() {
        std::lock_guard<std::mutex> lock(mutex);
        return recorded;
    }

    void wait_for(uint64_t mark) {
        std::unique_lock<std::mutex> lock(mutex);
        changed.wait(lock, [&] { return reached >= mark; });
    }

    std::chrono::steady_clock::time_point time() {
        std::lock_guard<std::mutex> lock(mutex);
        return at;
    }

    const bool timed;

private:
    std::mutex mutex;
    std::condition_variable changed;
    uint64_t recorded = 0, reached = 0;
    std::chrono::steady_clock::time_point at;
};

} // namespace emulated
