// NVRTC without NVIDIA: a `libnvrtc.so` whose machine code is a library for the CPU, made by the C++ compiler, for the emulated
// driver beside it.
//
// Build, in this folder (`mod.rs` does it for the tests):
//   c++ -O2 -std=c++17 -fPIC -fvisibility=hidden -shared -DEMULATED_CXX='"c++"' -DEMULATED_FOLDER='"'$PWD'"' nvrtc.cpp -o libnvrtc.so

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fstream>
#include <map>
#include <mutex>
#include <sstream>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

#define EMULATED_API extern "C" __attribute__((visibility("default")))

enum nvrtcResult { NVRTC_SUCCESS = 0, NVRTC_ERROR_INVALID_INPUT = 3, NVRTC_ERROR_INVALID_OPTION = 5, NVRTC_ERROR_COMPILATION = 6 };

struct Program {
    std::string text, name, log, code;
    std::map<std::string, std::string> headers;
};

static std::string read(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream bytes;
    bytes << file.rdbuf();
    return bytes.str();
}

static void write(const std::string &path, const std::string &bytes) { std::ofstream(path, std::ios::binary) << bytes; }

static std::string quoted(const std::string &text) {
    std::string result = "'";
    for (char letter : text) result += letter == '\'' ? std::string("'\\''") : std::string(1, letter);
    return result + "'";
}

// The folder that this library lies in, and the emulated driver with it.
static std::string own_folder() {
    Dl_info info;
    dladdr(reinterpret_cast<void *>(&own_folder), &info);
    std::string path = info.dli_fname;
    return path.substr(0, path.rfind('/'));
}

// Compiles in a folder of its own, and leaves nothing of it.
static nvrtcResult compile(Program &program, const std::string &definitions) {
    char folder[] = "/tmp/emulated-nvrtc-XXXXXX";
    if (!mkdtemp(folder)) return NVRTC_ERROR_INVALID_INPUT;
    std::string at = std::string(folder) + '/';
    for (auto &[name, text] : program.headers) {
        size_t slash = name.find('/');
        if (slash != std::string::npos) mkdir((at + name.substr(0, slash)).c_str(), 0700);
        write(at + name, text);
    }
    write(at + "source", "#line 1 \"" + program.name + "\"\n" + program.text);
    std::string command = "cd " + quoted(folder) + " && " EMULATED_CXX " -O1 -std=c++17 -ffp-contract=off -fPIC -fvisibility=hidden"
        " -shared -w -I . -I " + quoted(EMULATED_FOLDER "/user") + " -I " + quoted(EMULATED_FOLDER) + definitions +
        " -x c++ source -x none " + quoted(own_folder() + "/libcuda.so.1") + " -o object > log 2>&1";
    int status = std::system(command.c_str());
    program.log = read(at + "log");
    program.code = status == 0 ? read(at + "object") : "";
    if (std::system(("rm -r " + quoted(folder)).c_str()) != 0) return NVRTC_ERROR_INVALID_INPUT;
    return status == 0 ? NVRTC_SUCCESS : NVRTC_ERROR_COMPILATION;
}

EMULATED_API nvrtcResult nvrtcVersion(int *major, int *minor) {
    *major = 12;
    *minor = 0;
    return NVRTC_SUCCESS;
}

EMULATED_API const char *nvrtcGetErrorString(nvrtcResult result) {
    switch (result) {
    case NVRTC_SUCCESS: return "NVRTC_SUCCESS";
    case NVRTC_ERROR_INVALID_OPTION: return "NVRTC_ERROR_INVALID_OPTION";
    case NVRTC_ERROR_COMPILATION: return "NVRTC_ERROR_COMPILATION";
    default: return "NVRTC_ERROR_INVALID_INPUT";
    }
}

EMULATED_API nvrtcResult nvrtcCreateProgram(Program **program, const char *text, const char *name, int count,
                                            const char *const *headers, const char *const *names) {
    auto *made = new Program{text, name, "", "", {}};
    for (int i = 0; i < count; ++i) made->headers[names[i]] = headers[i];
    *program = made;
    return NVRTC_SUCCESS;
}

EMULATED_API nvrtcResult nvrtcDestroyProgram(Program **program) {
    delete *program;
    *program = nullptr;
    return NVRTC_SUCCESS;
}

EMULATED_API nvrtcResult nvrtcCompileProgram(Program *program, int count, const char *const *options) {
    // What was compiled before, by all that it depends on.
    static std::map<std::string, std::string> before;
    static std::mutex mutex;
    std::string definitions, key = program->text;
    for (int i = 0; i < count; ++i) {
        std::string option = options[i];
        if (option.rfind("-D", 0) == 0) definitions += ' ' + quoted(option);
        else if (option.rfind("--gpu-architecture=sm_", 0) != 0 && option.rfind("--maxrregcount=", 0) != 0 &&
                 option != "--relocatable-device-code=true" && option != "--std=c++17" && option != "--fmad=false") {
            program->log = "nvrtc: error: unrecognized option " + option;
            return NVRTC_ERROR_INVALID_OPTION;
        }
    }
    key += definitions;
    std::lock_guard<std::mutex> lock(mutex);
    auto found = before.find(key);
    if (found != before.end()) {
        program->code = found->second;
        return NVRTC_SUCCESS;
    }
    nvrtcResult result = compile(*program, definitions);
    if (result == NVRTC_SUCCESS) before[key] = program->code;
    return result;
}

EMULATED_API nvrtcResult nvrtcGetProgramLogSize(Program *program, size_t *bytes) {
    *bytes = program->log.size() + 1;
    return NVRTC_SUCCESS;
}

EMULATED_API nvrtcResult nvrtcGetProgramLog(Program *program, char *log) {
    std::memcpy(log, program->log.c_str(), program->log.size() + 1);
    return NVRTC_SUCCESS;
}

EMULATED_API nvrtcResult nvrtcGetCUBINSize(Program *program, size_t *bytes) {
    *bytes = program->code.size();
    return NVRTC_SUCCESS;
}

EMULATED_API nvrtcResult nvrtcGetCUBIN(Program *program, char *code) {
    std::memcpy(code, program->code.data(), program->code.size());
    return NVRTC_SUCCESS;
}
