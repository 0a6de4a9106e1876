// NVRTC without NVIDIA: a `libnvrtc.so` whose machine code is a library for the CPU, made by the C++ compiler, for the emulated
// driver beside it.
//
// Build, in this folder (`mod.rs` does it for the tests):
//   c++ -O2 -std=c++17 -fPIC -fvisibility=hidden -shared -DEMULATED_CXX='"c++"' -DEMULATED_FOLDER='"'$PWD'"' nvrtc.cpp -o libnvrtc.so

#include "compiler.hpp"

#include <cstring>
#include <mutex>
#include <vector>

#define EMULATED_API extern "C" __attribute__((visibility("default")))

enum nvrtcResult { NVRTC_SUCCESS = 0, NVRTC_ERROR_INVALID_INPUT = 3, NVRTC_ERROR_INVALID_OPTION = 5, NVRTC_ERROR_COMPILATION = 6 };

struct Program {
    std::string text, name, log, code;
    std::map<std::string, std::string> headers;
};

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
        if (option.rfind("-D", 0) == 0) definitions += ' ' + emulated::quoted(option);
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
    emulated::Compiled compiled = emulated::compile(program->text, program->name, program->headers, definitions);
    program->log = compiled.log;
    if (compiled.object.empty()) return NVRTC_ERROR_COMPILATION;
    before[key] = program->code = compiled.object;
    return NVRTC_SUCCESS;
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
