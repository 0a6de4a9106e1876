// What the environment variable EMULATED_CUDA asks of the emulated driver: `key=value`, separated by commas.
//
//   devices=N               so many devices; 0: none (1)
//   init=CODE               what cuInit returns (0)
//   version=N               what cuDriverGetVersion tells (12040)
//   sms=N                   multiprocessors of a device (16)
//   memory=BYTES            memory of a device (1 GiB)
//   loading=lazy|eager      when a module's functions are loaded (as CUDA_MODULE_LOADING says; lazy without it)
//   exit=tries|waits|ends   at the process's end: waits a second for a ring's kernel; or until it has ended; or ends it with code 0
//                           once it has (tries)
//   timeout=1               a watchdog ends long kernels, says the attribute (0)
//   mapping=none|whole|stale|lapsing    device memory cannot be mapped by the host; or can; or other memory is mapped in its place; or
//                           it is no longer mapped once a ring's kernel was launched (none)
//   hazards=abort|warn      what happens after a call that would stall or hang on a GPU was reported (abort)
//   fail=FUNCTION:N:CODE    the N-th call of FUNCTION returns CODE, and does nothing; FUNCTION with or without its `_v2`
//   fail=FUNCTION:every N:CODE    so does each N-th call
//   slow=FUNCTION:N         each call of FUNCTION begins N microseconds late; may stand more than once
//   freeze=N                a block of a resident kernel stops for good after so many turns of its threads
//   lose=N:CODE             after so many turns the device is lost with CODE
//   armed=PATH              `fail` counts no call, `freeze` and `lose` do nothing, while there is no file at PATH
//   gate=KERNEL:PATH        a launch of KERNEL that is not cooperative begins once there is a file at PATH
//   stuck=NUMBER:PATH       the square root of NUMBER is not found while there is a file at PATH: its thread looks again and again, and
//                           makes one at PATH.met
//   orders=PATH             each cuInit takes `fail` settings from this file, in place of those before, and counts anew
//   trace=PATH              a line is appended for each call that ends: FUNCTION CODE
// CUDA_LAUNCH_BLOCKING is heeded too: with it, a launch returns when the kernel has ended.
//
// `fail` may stand more than once. A CODE of those that lose the device (700, 719 and others) does so.
#pragma once

#include "results.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <fcntl.h>
#include <fstream>
#include <limits>
#include <map>
#include <mutex>
#include <string>
#include <strings.h>
#include <unistd.h>

namespace emulated {

constexpr uint64_t NEVER = std::numeric_limits<uint64_t>::max();

// Calls of a function that fail.
struct Failure {
    std::string function;
    uint64_t nth = 0;
    bool again = false;
    CUresult result = CUDA_SUCCESS;
    uint64_t calls = 0;

    bool hits(const char *name) {
        if (function != name && function + "_v2" != name) return false;
        uint64_t call = ++calls;
        return again ? call % nth == 0 : call == nth;
    }
};

struct Settings {
    int devices = 1;
    CUresult init = CUDA_SUCCESS;
    int version = 12040;
    int multiprocessors = 16;
    size_t memory_bytes = size_t(1) << 30;
    bool loads_lazily = true;
    int exec_timeout = 0;
    bool maps_memory = false;
    bool maps_stale = false, maps_until_launch = false;
    bool hazards_abort = true;
    bool launches_block = false;
    bool exit_waits = false, exit_ends = false;
    uint64_t freeze_after = NEVER;
    uint64_t lose_after = NEVER;
    std::map<std::string, uint64_t> slow;
    CUresult lose_with = CUDA_SUCCESS;
    std::string gated_kernel, gate, orders, stuck_while, armed;
    double stuck_at = -1;
    int trace = -1;

    Settings() {
        const char *blocking = std::getenv("CUDA_LAUNCH_BLOCKING");
        const char *loading = std::getenv("CUDA_MODULE_LOADING");
        loads_lazily = !loading || strcasecmp(loading, "EAGER") != 0;
        launches_block = blocking && std::string(blocking) != "0";
        const char *variable = std::getenv("EMULATED_CUDA");
        for (std::string rest = variable ? variable : ""; !rest.empty();) {
            std::string setting = cut(rest, ',');
            std::string key = cut(setting, '=');
            if (!key.empty()) set(key, setting);
        }
    }

    void delay(const char *name) const {
        auto found = slow.find(name);
        if (found != slow.end()) usleep(useconds_t(found->second));
    }

    // What this call of `name` returns in place of doing anything; CUDA_SUCCESS: it is done.
    CUresult fails(const char *name) {
        std::lock_guard<std::mutex> lock(mutex);
        if (failures.empty() || !is_armed()) return CUDA_SUCCESS;
        for (Failure &failure : failures)
            if (failure.hits(name)) return failure.result;
        return CUDA_SUCCESS;
    }

    void take_orders() {
        if (orders.empty()) return;
        std::lock_guard<std::mutex> lock(mutex);
        failures.clear();
        std::ifstream file(orders);
        for (std::string line; std::getline(file, line);)
            if (!line.empty()) add_failure("fail", line);
    }

    // In one write: lines of several threads do not mix.
    void note(const char *name, CUresult result) const {
        if (trace < 0) return;
        std::string line = std::string(name) + ' ' + std::to_string(int(result)) + '\n';
        if (write(trace, line.data(), line.size()) < 0) std::perror("emulated driver: trace");
    }

    bool is_armed() const { return armed.empty() || access(armed.c_str(), F_OK) == 0; }

    bool is_stuck(double number) const {
        if (number != stuck_at || access(stuck_while.c_str(), F_OK) != 0) return false;
        close(open((stuck_while + ".met").c_str(), O_CREAT | O_CLOEXEC, 0666));
        return true;
    }

    bool may_begin(const char *kernel) const { return gated_kernel != kernel || access(gate.c_str(), F_OK) == 0; }

private:
    std::mutex mutex;
    std::deque<Failure> failures;

    // What stands before the first `separator`; `text` keeps what stands behind it.
    static std::string cut(std::string &text, char separator) {
        size_t at = std::min(text.find(separator), text.size());
        std::string before = text.substr(0, at);
        text.erase(0, at + 1);
        return before;
    }

    static uint64_t number(const std::string &key, const std::string &text) {
        char *end = nullptr;
        uint64_t value = std::strtoull(text.c_str(), &end, 10);
        if (text.empty() || *end) refuse(key, text);
        return value;
    }

    [[noreturn]] static void refuse(const std::string &key, const std::string &value) {
        std::fprintf(stderr, "emulated driver: EMULATED_CUDA: %s=%s is no setting; see settings.hpp\n", key.c_str(),
                     value.c_str());
        std::abort();
    }

    static bool is(const std::string &key, const std::string &value, const char *yes, const char *no) {
        if (value != yes && value != no) refuse(key, value);
        return value == yes;
    }

    void set(const std::string &key, std::string value) {
        if (key == "devices") devices = int(number(key, value));
        else if (key == "init") init = CUresult(number(key, value));
        else if (key == "version") version = int(number(key, value));
        else if (key == "sms") multiprocessors = int(number(key, value));
        else if (key == "memory") memory_bytes = number(key, value);
        else if (key == "loading") loads_lazily = is(key, value, "lazy", "eager");
        else if (key == "exit") exit_ends = value == "ends", exit_waits = exit_ends || is(key, value, "waits", "tries");
        else if (key == "timeout") exec_timeout = int(number(key, value));
        else if (key == "mapping") set_mapping(key, value);
        else if (key == "hazards") hazards_abort = is(key, value, "abort", "warn");
        else if (key == "freeze") freeze_after = number(key, value);
        else if (key == "lose") set_loss(key, value);
        else if (key == "slow") set_slow(key, value);
        else if (key == "gate") gated_kernel = cut(value, ':'), gate = value;
        else if (key == "stuck") stuck_at = double(number(key, cut(value, ':'))), stuck_while = value;
        else if (key == "armed") armed = value;
        else if (key == "orders") orders = value;
        else if (key == "trace") trace = open(value.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
        else if (key == "fail") add_failure(key, value);
        else refuse(key, value);
    }

    void set_mapping(const std::string &key, const std::string &value) {
        maps_stale = value == "stale";
        maps_until_launch = value == "lapsing";
        maps_memory = maps_stale || maps_until_launch || is(key, value, "whole", "none");
    }

    void set_slow(const std::string &key, std::string value) {
        std::string function = cut(value, ':');
        slow[function] = number(key, value);
    }

    void set_loss(const std::string &key, std::string value) {
        lose_after = number(key, cut(value, ':'));
        lose_with = CUresult(number(key, value));
        if (!loses_the_device(lose_with)) refuse(key, value);
    }

    void add_failure(const std::string &key, std::string value) {
        Failure &failure = failures.emplace_back();
        failure.function = cut(value, ':');
        std::string nth = cut(value, ':');
        const std::string every = "every ";
        failure.again = nth.compare(0, every.size(), every) == 0;
        failure.nth = number(key, failure.again ? nth.substr(every.size()) : nth);
        failure.result = CUresult(number(key, value));
        if (failure.nth == 0) refuse(key, nth);
    }
};

} // namespace emulated
