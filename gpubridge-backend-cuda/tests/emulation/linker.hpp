// The driver's linker. What stands for machine code, and for PTX of users' kernels, is a library for the CPU: as it is; or in
// hexadecimal digits behind `// emulated object: `; or compiled here, if PTX says `// Made from FILE, options: OPTIONS` of this
// repository. Or it is a function of this process, which one thread of a team calls for all of them:
// `// emulated function: NAME ADDRESS CONTEXT`. Of the generated table of kernels the emulated driver reads which function
// each index leads to; of the ring, nothing but that it is there.
#pragma once

#include "compiler.hpp"
#include "machine.hpp"
#include "results.hpp"

#include <cstring>
#include <deque>
#include <dlfcn.h>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unistd.h>
#include <vector>

namespace emulated {

// A function of a user's kernel, as `GPUBRIDGE_KERNEL` defines it.
using Step = uint64_t(uint32_t step, const void *call, uint64_t *words, uint64_t *scratch);

// One of this process, with what it is to be told first.
using HostStep = uint64_t(const void *context, uint32_t step, const void *call, uint64_t *words);

struct Entry {
    Step *function = nullptr;
    HostStep *host_function = nullptr;
    const void *context = nullptr;
};

// The users' kernels of a module, by index.
using Linked = std::map<uint32_t, Entry>;

// Libraries, by what is in them: each is loaded once, for good.
class Libraries {
public:
    static void *load(const std::string &bytes) {
        static Libraries &libraries = *new Libraries;
        std::lock_guard<std::mutex> lock(libraries.mutex);
        auto [found, is_new] = libraries.loaded.try_emplace(bytes, nullptr);
        if (!is_new) return found->second;
        // By a name that no other has: the dynamic loader does not look into a file whose name it knows.
        char path[] = "/tmp/emulated-kernel-XXXXXX";
        int file = mkstemp(path);
        if (file >= 0 && write(file, bytes.data(), bytes.size()) == ssize_t(bytes.size())) {
            found->second = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        }
        if (!found->second) std::fprintf(stderr, "emulated driver: %s\n", dlerror());
        close(file);
        unlink(path);
        return found->second;
    }

private:
    std::mutex mutex;
    std::map<std::string, void *> loaded;
};

// What was linked, by the number that stands in the image.
class Images {
public:
    static constexpr const char *MARK = "\n// linked: ";

    static size_t add(Linked linked) {
        Images &images = get();
        std::lock_guard<std::mutex> lock(images.mutex);
        images.all.push_back(std::move(linked));
        return images.all.size() - 1;
    }

    // Of the image with this text; null if nothing was linked with the ring.
    static const Linked *of(const char *text) {
        const char *mark = std::strstr(text, MARK);
        if (!mark) return nullptr;
        Images &images = get();
        std::lock_guard<std::mutex> lock(images.mutex);
        return &images.all[std::strtoul(mark + std::strlen(MARK), nullptr, 10)];
    }

private:
    // A queue, because its elements stay where they are.
    std::deque<Linked> all;
    std::mutex mutex;

    static Images &get() {
        static Images &images = *new Images;
        return images;
    }
};

class Linker {
public:
    // Where the caller wants to read what is wrong.
    char *log = nullptr;
    size_t log_bytes = 0;

    CUresult add(bool is_ptx, const char *data, size_t bytes, const char *name) {
        if (!is_ptx) return add_library(std::string(data, bytes), name);
        std::string text(data, strnlen(data, bytes));
        const std::string object = "// emulated object: ";
        size_t at = text.find(object);
        if (at != std::string::npos) return add_library(from_digits(text.substr(at + object.size())), name);
        if (text.find("// emulated function: ") != std::string::npos) return add_function(text);
        if (text.find(".version") == std::string::npos)
            return refuse(CUDA_ERROR_INVALID_PTX, std::string("ptxas: ") + name + ": no .version");
        if (text.find(".entry") != std::string::npos) ring = text;
        else if (text.find(" gpubridge_user(") != std::string::npos) read_table(text);
        else return add_source(text, name);
        return CUDA_SUCCESS;
    }

    CUresult complete(void **image, size_t *bytes) {
        Linked linked;
        for (auto &[index, function] : table) {
            for (void *library : libraries) {
                void *found = dlsym(library, function.c_str());
                if (!found) continue;
                if (linked.count(index)) return refuse(CUDA_ERROR_UNKNOWN, "Multiple definition of '" + function + "'");
                linked[index].function = reinterpret_cast<Step *>(found);
            }
            auto of_process = functions.find(function);
            if (of_process != functions.end()) linked[index] = of_process->second;
            if (!linked.count(index)) return refuse(CUDA_ERROR_UNKNOWN, "Undefined reference to '" + function + "'");
        }
        linked_image = ring + Images::MARK + std::to_string(Images::add(std::move(linked))) + "\n";
        *image = linked_image.data();
        *bytes = linked_image.size() + 1;
        return CUDA_SUCCESS;
    }

private:
    std::string ring, linked_image;
    std::vector<void *> libraries;
    std::map<std::string, Entry> functions;
    std::map<uint32_t, std::string> table;

    CUresult refuse(CUresult result, const std::string &why) {
        if (log) std::snprintf(log, log_bytes, "%s", why.c_str());
        return result;
    }

    CUresult add_library(const std::string &bytes, const char *name) {
        void *library = Libraries::load(bytes);
        if (!library) return refuse(CUDA_ERROR_INVALID_PTX, std::string(name) + ": is no object");
        libraries.push_back(library);
        return CUDA_SUCCESS;
    }

    // What PTX was made from. Of the options those are a C++ compiler's that define.
    CUresult add_source(const std::string &text, const char *name) {
        const std::string repository = EMULATED_FOLDER "/../../..";
        std::istringstream words(text.substr(0, text.find('\n')));
        std::string word, file, options = " -I " + quoted(repository + "/kernels/cuda");
        words >> word >> word >> word >> file;
        if (text.rfind("// Made from ", 0) != 0 || file.empty() || file.back() != ',')
            return refuse(CUDA_ERROR_INVALID_PTX, std::string("ptxas: ") + name + ": the emulated driver cannot run PTX");
        file.pop_back();
        while (words >> word) {
            if (word.rfind("-D", 0) == 0) options += ' ' + quoted(word);
        }
        Compiled compiled = compile(read_file(repository + '/' + file), file, {}, options);
        if (compiled.object.empty()) return refuse(CUDA_ERROR_INVALID_PTX, compiled.log);
        return add_library(compiled.object, name);
    }

    CUresult add_function(const std::string &text) {
        char name[64];
        unsigned long address, context;
        const char *at = std::strstr(text.c_str(), "// emulated function: ");
        if (std::sscanf(at, "// emulated function: %63s %lu %lu", name, &address, &context) != 3)
            return refuse(CUDA_ERROR_INVALID_PTX, "an emulated function has a name, an address and a context");
        functions[name] = {nullptr, reinterpret_cast<HostStep *>(address), reinterpret_cast<const void *>(context)};
        return CUDA_SUCCESS;
    }

    static std::string from_digits(const std::string &digits) {
        std::string bytes;
        for (size_t at = 0; at + 1 < digits.size() && std::isxdigit(digits[at]); at += 2)
            bytes += char(std::stoi(digits.substr(at, 2), nullptr, 16));
        return bytes;
    }

    // Each comparison of the index, and the call behind it.
    void read_table(const std::string &text) {
        const std::string compares = "%other, %index, ", calls = "call.uni (got), ";
        for (size_t at = text.find(compares); at != std::string::npos; at = text.find(compares, at)) {
            uint32_t index = uint32_t(std::strtoul(text.c_str() + at + compares.size(), nullptr, 10));
            at = text.find(calls, at);
            if (at == std::string::npos) return;
            at += calls.size();
            table[index] = text.substr(at, text.find(',', at) - at);
        }
    }
};

} // namespace emulated

// What `users.cuh` declares, for all modules: each thread knows by its launch what its own is linked with.
extern "C" gb::u64 gpubridge_user(gb::u32 index, gb::u32 step, const gb::Call *call, gb::u64 *words, gb::u64 *scratch) {
    auto *linked = static_cast<const emulated::Linked *>(emulation::linked());
    if (!linked) return gb::REFUSED;
    auto found = linked->find(index);
    if (found == linked->end()) return gb::REFUSED;
    const emulated::Entry &entry = found->second;
    auto *as_words = reinterpret_cast<uint64_t *>(words);
    if (entry.function) return entry.function(step, call, as_words, reinterpret_cast<uint64_t *>(scratch));
    bool by_warp = step == gb::STEP_CHECK || step == gb::STEP_BY_WARP;
    bool leads = by_warp ? gb::Warp{}.rank() == 0 : gb::block_index() == 0 && gb::thread_index() == 0;
    uint64_t answer = leads ? entry.host_function(entry.context, step, call, as_words) : 0;
    return by_warp ? gb::shuffle_bits(answer, 0) : answer;
}
