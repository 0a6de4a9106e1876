// Modules: text of PTX, of which the emulated driver reads what it says of its kernels. What they do comes from the same
// sources, compiled into the driver.
#pragma once

#include "kernels.hpp"
#include "linker.hpp"
#include "results.hpp"

#include <atomic>
#include <cstring>
#include <map>

namespace emulated {

struct Function {
    const Kernel *kernel;
    // `.maxntid`; 0: none.
    unsigned threads_max = 0;
    size_t parameters = 0;
    std::atomic<bool> loaded{false};
};

class Module {
public:
    // What is wrong with the image goes to `why`.
    CUresult load(const char *image, int driver_version, bool loads_lazily, std::string &why) {
        if (std::strncmp(image, "\177ELF", 4) == 0) return refuse(CUDA_ERROR_NO_BINARY_FOR_GPU, "machine code of a GPU", why);
        std::string text = without_comments(image);
        size_t start = text.find_first_not_of(" \t\r\n");
        int major = 0, minor = 0, target = 0;
        if (start == std::string::npos || std::sscanf(text.c_str() + start, ".version %d.%d", &major, &minor) != 2)
            return refuse(CUDA_ERROR_INVALID_PTX, "the text does not begin with .version", why);
        // Roughly: the version of PTX is that of CUDA less 4.
        if (major * 1000 + minor * 10 > driver_version - 4000)
            return refuse(CUDA_ERROR_UNSUPPORTED_PTX_VERSION, ".version is newer than the driver", why);
        size_t at = text.find(".target");
        if (at == std::string::npos || std::sscanf(text.c_str() + at, ".target sm_%d", &target) != 1)
            return refuse(CUDA_ERROR_INVALID_PTX, "no .target", why);
        if (target > 75) return refuse(CUDA_ERROR_INVALID_PTX, ".target is higher than the device, sm_75", why);
        ptx_version = major * 10 + minor;
        linked = Images::of(image);
        return read_entries(text, !loads_lazily, why);
    }

    Function *find(const std::string &name) {
        auto found = functions.find(name);
        return found == functions.end() ? nullptr : &found->second;
    }

    bool holds(const Function *function) const {
        for (const auto &[name, held] : functions)
            if (&held == function) return true;
        return false;
    }

    int ptx_version = 0;
    const Linked *linked = nullptr;

private:
    static CUresult refuse(CUresult result, const char *what, std::string &why) {
        why = what;
        return result;
    }

    static std::string without_comments(const char *text) {
        std::string kept;
        while (*text) {
            if (std::strncmp(text, "//", 2) == 0) {
                text += std::strcspn(text, "\n");
            } else if (std::strncmp(text, "/*", 2) == 0) {
                const char *end = std::strstr(text, "*/");
                text = end ? end + 2 : text + std::strlen(text);
            } else {
                kept += *text++;
            }
        }
        return kept;
    }

    // Each `.visible .entry NAME(parameters) directives {`.
    CUresult read_entries(const std::string &text, bool loaded, std::string &why) {
        const std::string entry = ".entry";
        for (size_t at = text.find(entry); at != std::string::npos; at = text.find(entry, at + 1)) {
            size_t before = text.find_last_not_of(" \t\r\n", at - 1);
            const std::string visible = ".visible";
            if (before == std::string::npos || before + 1 < visible.size() ||
                text.compare(before + 1 - visible.size(), visible.size(), visible) != 0)
                continue;
            size_t name = text.find_first_not_of(" \t\r\n", at + entry.size());
            size_t open = std::min(text.find_first_of("( \t\r\n{", name), text.size());
            size_t body = std::min(text.find('{', open), text.size());
            if (name == std::string::npos || body == text.size())
                return refuse(CUDA_ERROR_INVALID_PTX, "an .entry without a body", why);
            read_entry(text.substr(name, open - name), text.substr(open, body - open), loaded);
        }
        return CUDA_SUCCESS;
    }

    void read_entry(const std::string &name, const std::string &head, bool loaded) {
        Function &function = functions[name];
        function.kernel = find_kernel(name);
        function.loaded = loaded;
        for (size_t at = head.find(".param"); at != std::string::npos; at = head.find(".param", at + 1)) ++function.parameters;
        size_t limit = head.find(".maxntid");
        if (limit != std::string::npos) std::sscanf(head.c_str() + limit, ".maxntid %u", &function.threads_max);
    }

    std::map<std::string, Function> functions;
};

} // namespace emulated
