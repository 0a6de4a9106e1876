//! Graphs: kernels one behind another that are launched by one call.
#![expect(unsafe_code, reason = "foreign functions: with `driver`, this is where the backend calls the driver")]

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use gpubridge_abstractions::Error;

use super::{Context, Function, Shape, Stream, sys};

/// The most arguments of a kernel that is launched beside the rings.
const ARGUMENTS_MAX: usize = 4;

/// A kernel, how it is launched, and its arguments as they lie in memory; those that it does not have count for nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) function: Function,
    pub(crate) shape: Shape,
    pub(crate) arguments: [u64; ARGUMENTS_MAX],
}

impl Step {
    /// Calls `take` with what the driver calls a kernel's node.
    fn with_node<R>(&self, take: impl FnOnce(&sys::CUDA_KERNEL_NODE_PARAMS) -> R) -> R {
        let mut arguments =
            self.arguments.each_ref().map(|argument| ptr::from_ref(argument).cast_mut().cast::<c_void>());
        take(&sys::CUDA_KERNEL_NODE_PARAMS {
            func: self.function.0,
            gridDimX: self.shape.blocks,
            gridDimY: 1,
            gridDimZ: 1,
            blockDimX: self.shape.threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: 0,
            kernelParams: arguments.as_mut_ptr(),
            extra: ptr::null_mut(),
            kern: ptr::null_mut(),
            ctx: ptr::null_mut(),
        })
    }
}

/// A graph that can be launched. Made and dropped while no ring runs.
#[derive(Debug)]
pub(crate) struct Graph {
    context: Arc<Context>,
    graph: sys::CUgraph,
    executable: sys::CUgraphExec,
    // In order, each behind the one before it.
    nodes: Vec<sys::CUgraphNode>,
}

// SAFETY: the driver's graphs are not bound to a thread.
unsafe impl Send for Graph {}
// SAFETY: whoever launches one keeps others from it meanwhile.
unsafe impl Sync for Graph {}

impl Graph {
    /// A graph of these steps. It is launched once on `stream`, and waited for, so that no later launch has anything to wait for.
    pub(crate) fn new(context: &Arc<Context>, steps: &[Step], stream: &Stream) -> Result<Self, Error> {
        let (null, nodes) = (ptr::null_mut(), Vec::with_capacity(steps.len()));
        let mut made = Self { context: Arc::clone(context), graph: null, executable: ptr::null_mut(), nodes };
        let graph = &raw mut made.graph;
        // SAFETY: `graph` is the out parameter.
        context.call("cuda.open", "making a graph", || unsafe { sys::cuGraphCreate(graph, 0) })?;
        for step in steps {
            made.add(step)?;
        }
        let (executable, graph) = (&raw mut made.executable, made.graph);
        // SAFETY: `executable` is the out parameter, and the graph is there.
        let instantiate = || unsafe { sys::cuGraphInstantiateWithFlags(executable, graph, 0) };
        context.call("cuda.open", "making a graph ready", instantiate)?;
        made.start(stream)?;
        stream.wait()?;
        Ok(made)
    }

    fn add(&mut self, step: &Step) -> Result<(), Error> {
        let mut node = ptr::null_mut();
        let (out, graph) = (&raw mut node, self.graph);
        let before = self.nodes.last().map_or(ptr::null(), ptr::from_ref);
        let count = self.nodes.len().min(1);
        step.with_node(|parameters| {
            // SAFETY: the function belongs to a loaded module, and there is a pointer for each of its parameters, whose
            // values the driver copies; the nodes are the graph's.
            let add = || unsafe { sys::cuGraphAddKernelNode_v2(out, graph, before, count, parameters) };
            self.context.call("cuda.open", "adding a kernel to a graph", add)
        })?;
        self.nodes.push(node);
        Ok(())
    }

    /// Queues the graph, with these steps in the place of those that it was made of: the same functions, with other shapes and
    /// arguments. Nobody else launches it meanwhile.
    ///
    /// The caller answers for what the kernels do with their arguments.
    pub(crate) fn launch(&self, steps: impl Iterator<Item = Step>, stream: &Stream) -> Result<(), Error> {
        for (&node, step) in self.nodes.iter().zip(steps) {
            step.with_node(|parameters| {
                // SAFETY: as when the node was added. A launch that is under way keeps what it was launched with.
                let set = || unsafe { sys::cuGraphExecKernelNodeSetParams_v2(self.executable, node, parameters) };
                self.context.call("cuda.launch", "setting the arguments of a graph", set)
            })?;
        }
        self.start(stream)
    }

    fn start(&self, stream: &Stream) -> Result<(), Error> {
        // SAFETY: both live as long as `self` and its borrower.
        let launch = || unsafe { sys::cuGraphLaunch(self.executable, stream.stream) };
        self.context.call("cuda.launch", "launching a graph", launch)
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        let (graph, executable) = (self.graph, self.executable);
        if !executable.is_null() {
            // SAFETY: destroyed once; nothing that it was launched for is under way.
            self.context.call("cuda.close", "closing a graph", || unsafe { sys::cuGraphExecDestroy(executable) }).ok();
        }
        if !graph.is_null() {
            // SAFETY: destroyed once.
            self.context.call("cuda.close", "closing a graph", || unsafe { sys::cuGraphDestroy(graph) }).ok();
        }
    }
}
