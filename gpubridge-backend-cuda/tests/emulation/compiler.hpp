// The C++ compiler as a compiler of kernels: what it makes of one is a library for the CPU, for the emulated driver beside it.
//
// EMULATED_CXX is the compiler, EMULATED_FOLDER this folder.
#pragma once

#include <cstdlib>
#include <dlfcn.h>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

namespace emulated {

// The library, empty if there is none, and what the compiler said.
struct Compiled {
    std::string object, log;
};

inline std::string read_file(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream bytes;
    bytes << file.rdbuf();
    return bytes.str();
}

inline void write_file(const std::string &path, const std::string &bytes) { std::ofstream(path, std::ios::binary) << bytes; }

inline std::string quoted(const std::string &text) {
    std::string result = "'";
    for (char letter : text) result += letter == '\'' ? std::string("'\\''") : std::string(1, letter);
    return result + "'";
}

// The folder that this library lies in, and the emulated driver with it.
inline std::string own_folder() {
    Dl_info info;
    dladdr(reinterpret_cast<void *>(&own_folder), &info);
    std::string path = info.dli_fname;
    return path.substr(0, path.rfind('/'));
}

// Compiles a source of this name with these headers, by their names, and options, each with a space before it. In a folder of its
// own, of which nothing is left.
inline Compiled compile(const std::string &text, const std::string &name, const std::map<std::string, std::string> &headers,
                        const std::string &options) {
    char folder[] = "/tmp/emulated-compiler-XXXXXX";
    if (!mkdtemp(folder)) return {"", "no folder can be made in /tmp"};
    std::string at = std::string(folder) + '/';
    for (auto &[header, header_text] : headers) {
        size_t slash = header.find('/');
        if (slash != std::string::npos) mkdir((at + header.substr(0, slash)).c_str(), 0700);
        write_file(at + header, header_text);
    }
    write_file(at + "source", "#line 1 \"" + name + "\"\n" + text);
    std::string command = "cd " + quoted(folder) + " && " EMULATED_CXX " -O1 -std=c++17 -ffp-contract=off -fPIC -fvisibility=hidden"
        " -shared -w -I . -I " + quoted(EMULATED_FOLDER "/user") + " -I " + quoted(EMULATED_FOLDER) + options +
        " -x c++ source -x none " + quoted(own_folder() + "/libcuda.so.1") + " -o object > log 2>&1";
    bool compiles = std::system(command.c_str()) == 0;
    Compiled compiled{compiles ? read_file(at + "object") : "", read_file(at + "log")};
    if (std::system(("rm -r " + quoted(folder)).c_str()) != 0) return {"", "the compiler's folder stays"};
    return compiled;
}

} // namespace emulated
