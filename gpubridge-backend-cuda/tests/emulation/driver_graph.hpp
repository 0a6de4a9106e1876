// Graphs of kernels, each behind the one that was added before it: there are no others.
#pragma once

#include "device.hpp"

namespace emulated {

// CUDA_KERNEL_NODE_PARAMS_v2.
struct KernelNode {
    Function *function;
    Size grid, block;
    unsigned shared_bytes;
    void **parameters;
    void **extra;
    void *kernel, *context;
};

// What a node launches; the graph's until it is made ready, which copies it.
struct Node {
    Function *function;
    std::shared_ptr<emulation::Launch> launch;
};

struct Graph {
    std::vector<std::shared_ptr<Node>> nodes;
};

struct Executable {
    std::vector<std::shared_ptr<Node>> nodes;
    std::vector<std::shared_ptr<emulation::Launch>> launches;
    std::mutex mutex;
    bool is_uploaded = false;
};

// For good: a thread may still give its own back when the process ends.
static Handles<Graph> &graphs = *new Handles<Graph>;
static Handles<Executable> &executables = *new Handles<Executable>;

static CUresult prepare(const char *call, const KernelNode &wanted, std::shared_ptr<emulation::Launch> &launch) {
    return enter_function(call, wanted.function, [&](Device &, Function &function, Module &module) {
        if (wanted.extra || wanted.kernel || wanted.context) return CUDA_ERROR_NOT_SUPPORTED;
        return prepare(function, module, wanted.grid, wanted.block, wanted.shared_bytes, wanted.parameters, launch);
    });
}

EMULATED_API CUresult cuGraphCreate(Graph **graph, unsigned flags) {
    return enter_context(__func__, [&](Device &) {
        if (!graph || flags != 0) return CUDA_ERROR_INVALID_VALUE;
        *graph = graphs.add(std::make_shared<Graph>());
        return CUDA_SUCCESS;
    });
}

EMULATED_API CUresult cuGraphAddKernelNode_v2(Node **node, Graph *handle, Node *const *before, size_t count,
                                              const KernelNode *wanted) {
    auto graph = graphs.find(handle);
    if (!graph || !wanted) return CUDA_ERROR_INVALID_VALUE;
    bool is_next = graph->nodes.empty() ? count == 0 : count == 1 && *before == graph->nodes.back().get();
    if (!is_next) return CUDA_ERROR_NOT_SUPPORTED;
    auto made = std::make_shared<Node>(Node{wanted->function, nullptr});
    CUresult result = prepare(__func__, *wanted, made->launch);
    if (result != CUDA_SUCCESS) return result;
    *node = made.get();
    graph->nodes.push_back(std::move(made));
    return CUDA_SUCCESS;
}

EMULATED_API CUresult cuGraphInstantiateWithFlags(Executable **handle, Graph *graph_handle, unsigned long long flags) {
    return enter_context(__func__, [&](Device &device) {
        device.must_not_wait();
        auto graph = graphs.find(graph_handle);
        if (!graph || flags != 0) return CUDA_ERROR_INVALID_VALUE;
        auto made = std::make_shared<Executable>();
        made->nodes = graph->nodes;
        for (auto &node : made->nodes) made->launches.push_back(node->launch);
        *handle = executables.add(std::move(made));
        return CUDA_SUCCESS;
    });
}

EMULATED_API CUresult cuGraphExecKernelNodeSetParams_v2(Executable *handle, Node *node, const KernelNode *wanted) {
    auto executable = executables.find(handle);
    if (!executable || !wanted) return CUDA_ERROR_INVALID_VALUE;
    std::shared_ptr<emulation::Launch> launch;
    CUresult result = prepare(__func__, *wanted, launch);
    if (result != CUDA_SUCCESS) return result;
    std::lock_guard<std::mutex> lock(executable->mutex);
    for (size_t i = 0; i < executable->nodes.size(); ++i) {
        if (executable->nodes[i].get() != node) continue;
        if (node->function != wanted->function) return CUDA_ERROR_INVALID_VALUE;
        executable->launches[i] = std::move(launch);
        return CUDA_SUCCESS;
    }
    return CUDA_ERROR_INVALID_VALUE;
}

EMULATED_API CUresult cuGraphLaunch(Executable *handle, void *stream_handle) {
    return enter_context(__func__, [&](Device &device) {
        auto executable = executables.find(handle);
        auto stream = device.find_stream(stream_handle);
        if (!executable || !stream) return CUDA_ERROR_INVALID_HANDLE;
        std::vector<std::shared_ptr<emulation::Launch>> launches;
        {
            std::lock_guard<std::mutex> lock(executable->mutex);
            // The first launch brings the graph to the device.
            if (!executable->is_uploaded) device.must_not_wait(" for the first time");
            executable->is_uploaded = true;
            for (auto &launch : executable->launches) launches.push_back(std::make_shared<emulation::Launch>(*launch));
        }
        device.launch_in_turn(stream, std::move(launches));
        device.wait_if_launches_block(stream);
        return CUDA_SUCCESS;
    });
}

EMULATED_API CUresult cuGraphExecDestroy(Executable *handle) {
    return enter_context(__func__, [&](Device &device) {
        device.must_not_wait();
        return executables.take(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    });
}

EMULATED_API CUresult cuGraphDestroy(Graph *handle) {
    return enter_context(__func__, [&](Device &) {
        return graphs.take(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    });
}

} // namespace emulated
