//! What calls of the driver do while a ring runs: return, stall, or hang. One process each: a call that hangs ends with it.
#![expect(
    unsafe_code,
    reason = "each hazard is a foreign call that the backend itself never makes under a running ring"
)]

use std::ffi::{c_int, c_uint, c_void};
use std::ptr;
use std::sync::Arc;

use gpubridge_abstractions::{Error, ErrorKind};

use crate::driver::{Context, Function, Graph, MAPPING_ALIGNMENT, Shape, Step, Stream, raw};

/// A call, by its name in the driver.
#[derive(Clone, Copy, Debug)]
pub struct Hazard {
    /// What is called.
    pub name: &'static str,
    call: fn(&Subject) -> raw::CUresult,
}

/// What the calls need, made before the ring.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) context: Arc<Context>,
    pub(super) kernel: Function,
    pub(super) ptx: &'static str,
    device: u64,
    device_to_free: u64,
    pinned: *mut c_void,
    pinned_to_free: *mut c_void,
    pageable: Vec<u8>,
    module: raw::CUmodule,
    stream: raw::CUstream,
    event: raw::CUevent,
    graph: Graph,
    graph_stream: Stream,
}

const BYTES: usize = 1 << 20;

/// Calls the driver and keeps the first failure.
macro_rules! raw_call {
    ($($call:expr),+ $(,)?) => {{
        let mut result = raw::CUresult::CUDA_SUCCESS;
        $(if result == raw::CUresult::CUDA_SUCCESS {
            // SAFETY: every argument is an out parameter of this function, or was made by `Subject::new` and is used once.
            result = unsafe { $call };
        })+
        result
    }};
}

mod compound;

/// All of them, the harmless ones first.
pub const HAZARDS: &[Hazard] = &[
    Hazard { name: "cuStreamQuery", call: |s| not_ready_is_fine(raw_call!(raw::cuStreamQuery(s.stream))) },
    Hazard { name: "cuStreamSynchronize, another stream", call: |s| raw_call!(raw::cuStreamSynchronize(s.stream)) },
    Hazard { name: "cuLaunchKernel, another stream", call: |s| launch(s, s.stream) },
    Hazard {
        name: "cuEventCreate, record, synchronize, destroy",
        call: |s| {
            let mut event = ptr::null_mut();
            raw_call!(
                raw::cuEventCreate(&raw mut event, 0),
                raw::cuEventRecord(event, s.stream),
                raw::cuEventSynchronize(event),
                raw::cuEventDestroy_v2(event),
            )
        },
    },
    Hazard {
        name: "cuStreamWaitEvent, another stream",
        call: |s| raw_call!(raw::cuEventRecord(s.event, s.stream), raw::cuStreamWaitEvent(s.stream, s.event, 0)),
    },
    Hazard {
        name: "cuMemsetD8Async",
        call: |s| raw_call!(raw::cuMemsetD8Async(s.device, 1, BYTES, s.stream), raw::cuStreamSynchronize(s.stream)),
    },
    Hazard {
        name: "cuMemcpyHtoDAsync, page-locked",
        call: |s| {
            raw_call!(
                raw::cuMemcpyHtoDAsync_v2(s.device, s.pinned, BYTES, s.stream),
                raw::cuStreamSynchronize(s.stream)
            )
        },
    },
    Hazard {
        name: "cuMemcpyDtoHAsync, page-locked",
        call: |s| {
            raw_call!(
                raw::cuMemcpyDtoHAsync_v2(s.pinned, s.device, BYTES, s.stream),
                raw::cuStreamSynchronize(s.stream)
            )
        },
    },
    Hazard {
        name: "cuMemcpyAsync, page-locked",
        call: |s| {
            let host = s.pinned as u64;
            raw_call!(
                raw::cuMemcpyAsync(s.device, host, BYTES, s.stream),
                raw::cuMemcpyAsync(host, s.device, BYTES, s.stream),
                raw::cuStreamSynchronize(s.stream)
            )
        },
    },
    Hazard {
        name: "cuMemcpyHtoDAsync, pageable",
        call: |s| {
            let from = s.pageable.as_ptr().cast();
            raw_call!(raw::cuMemcpyHtoDAsync_v2(s.device, from, BYTES, s.stream), raw::cuStreamSynchronize(s.stream))
        },
    },
    Hazard {
        name: "cuMemcpyHtoD, the null stream",
        call: |s| raw_call!(raw::cuMemcpyHtoD_v2(s.device, s.pageable.as_ptr().cast(), BYTES)),
    },
    Hazard {
        name: "cuMemGetInfo",
        call: |_| {
            let (mut free, mut total) = (0, 0);
            raw_call!(raw::cuMemGetInfo_v2(&raw mut free, &raw mut total))
        },
    },
    Hazard {
        name: "cuStreamCreate, destroy",
        call: |_| {
            let mut stream = ptr::null_mut();
            let flags = raw::CUstream_flags_enum::CU_STREAM_NON_BLOCKING as c_uint;
            raw_call!(raw::cuStreamCreate(&raw mut stream, flags), raw::cuStreamDestroy_v2(stream))
        },
    },
    Hazard {
        name: "cuMemAllocAsync, cuMemFreeAsync",
        call: |s| {
            let mut address = 0;
            raw_call!(
                raw::cuMemAllocAsync(&raw mut address, BYTES, s.stream),
                raw::cuMemFreeAsync(address, s.stream),
                raw::cuStreamSynchronize(s.stream),
            )
        },
    },
    Hazard {
        name: "cuMemAlloc",
        call: |_| {
            let mut address = 0;
            raw_call!(raw::cuMemAlloc_v2(&raw mut address, 64 * BYTES))
        },
    },
    Hazard { name: "cuMemFree", call: |s| raw_call!(raw::cuMemFree_v2(s.device_to_free)) },
    Hazard {
        name: "cuMemHostAlloc",
        call: |_| {
            let mut bytes = ptr::null_mut();
            raw_call!(raw::cuMemHostAlloc(&raw mut bytes, BYTES, raw::CU_MEMHOSTALLOC_DEVICEMAP))
        },
    },
    Hazard { name: "cuMemFreeHost", call: |s| raw_call!(raw::cuMemFreeHost(s.pinned_to_free)) },
    Hazard {
        name: "cuMemHostRegister, unregister",
        call: |s| {
            let bytes = s.pageable.as_ptr().cast_mut().cast();
            raw_call!(raw::cuMemHostRegister_v2(bytes, BYTES, 0), raw::cuMemHostUnregister(bytes))
        },
    },
    Hazard {
        name: "cuModuleLoadData",
        call: |s| {
            let mut module = ptr::null_mut();
            let Ok(text) = std::ffi::CString::new(s.ptx) else { return raw::CUresult::CUDA_ERROR_INVALID_VALUE };
            raw_call!(raw::cuModuleLoadData(&raw mut module, text.as_ptr().cast()))
        },
    },
    Hazard { name: "cuModuleUnload", call: |s| raw_call!(raw::cuModuleUnload(s.module)) },
    Hazard {
        name: "cuLinkCreate, destroy",
        call: |_| {
            let mut state = ptr::null_mut();
            raw_call!(
                raw::cuLinkCreate_v2(0, ptr::null_mut(), ptr::null_mut(), &raw mut state),
                raw::cuLinkDestroy(state)
            )
        },
    },
    Hazard {
        name: "cuGraphInstantiate, launch, destroy",
        call: |s| {
            let (mut graph, mut node, mut runs) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
            raw_call!(
                raw::cuGraphCreate(&raw mut graph, 0),
                raw::cuGraphAddEmptyNode(&raw mut node, graph, ptr::null(), 0),
                raw::cuGraphInstantiateWithFlags(&raw mut runs, graph, 0),
                raw::cuGraphLaunch(runs, s.stream),
                raw::cuStreamSynchronize(s.stream),
                raw::cuGraphExecDestroy(runs),
                raw::cuGraphDestroy(graph),
            )
        },
    },
    Hazard { name: "cuLinkCreate, add the ring's PTX, complete, destroy", call: compound::link },
    Hazard { name: "nvrtcCompileProgram", call: compound::compile },
    Hazard { name: "cuMemPoolCreate, cuMemAllocFromPoolAsync, cuMemFreeAsync, trim, destroy", call: compound::pool },
    Hazard {
        name: "cuMemAddressReserve, create, map, set access, unmap, release, free",
        call: compound::virtual_memory,
    },
    Hazard { name: "cuGraphExecKernelNodeSetParams, launch, while launched, 100 times", call: launch_graph },
    Hazard {
        name: "cuMemGetHandleForAddressRange",
        call: |s| {
            let mut descriptor: c_int = -1;
            let kind = raw::CUmemRangeHandleType::CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD;
            let (out, first) = ((&raw mut descriptor).cast(), s.device.next_multiple_of(MAPPING_ALIGNMENT));
            raw_call!(raw::cuMemGetHandleForAddressRange(out, first, BYTES / 2, kind, 0))
        },
    },
    Hazard {
        name: "cuMemcpyAsync, within the host's memory",
        call: |s| {
            let [to, from] = [s.pinned, s.pinned_to_free].map(|at| at as u64);
            raw_call!(raw::cuMemcpyAsync(to, from, BYTES, s.stream), raw::cuStreamSynchronize(s.stream))
        },
    },
    Hazard { name: "cuLaunchKernel, the null stream", call: |s| launch(s, ptr::null_mut()) },
    Hazard { name: "cuCtxCreate, launch there, synchronize, destroy", call: compound::second_context },
    Hazard { name: "cuCtxSynchronize", call: |_| raw_call!(raw::cuCtxSynchronize()) },
];

fn not_ready_is_fine(result: raw::CUresult) -> raw::CUresult {
    if result == raw::CUresult::CUDA_ERROR_NOT_READY { raw::CUresult::CUDA_SUCCESS } else { result }
}

/// Launches a kernel that does nothing on a record of zeros, and waits for it.
fn launch(subject: &Subject, stream: raw::CUstream) -> raw::CUresult {
    let (record, variant) = (subject.device, 0_u64);
    let mut arguments = [&raw const record, &raw const variant].map(|argument| argument.cast_mut().cast::<c_void>());
    let (kernel, arguments) = (subject.kernel.raw(), arguments.as_mut_ptr());
    raw_call!(
        raw::cuLaunchKernel(kernel, 1, 1, 1, 32, 1, 1, 0, stream, arguments, ptr::null_mut()),
        raw::cuStreamSynchronize(stream),
    )
}

/// Three kernels that do nothing on a record of zeros.
fn steps(kernel: Function, record: u64) -> [Step; 3] {
    [Step { function: kernel, shape: ONE_WARP, arguments: [record, 0, 0, 0] }; 3]
}

/// Launches the graph with new arguments, time and again, without waiting for it.
fn launch_graph(subject: &Subject) -> raw::CUresult {
    let again = || subject.graph.launch(steps(subject.kernel, subject.device).into_iter(), &subject.graph_stream);
    let launched = (0..100).try_for_each(|_| again()).and_then(|()| subject.graph_stream.wait());
    if launched.is_ok() { raw::CUresult::CUDA_SUCCESS } else { raw::CUresult::CUDA_ERROR_UNKNOWN }
}

impl Subject {
    pub(super) fn new(context: Arc<Context>, kernel: Function, ptx: &'static str) -> Result<Self, Error> {
        let graph_stream = context.stream()?;
        let record = context.allocate(BYTES as u64)?;
        graph_stream.zero(record.address(), BYTES as u64)?;
        let graph = Graph::new(&context, &steps(kernel, record.address()), &graph_stream)?;
        let text = std::ffi::CString::new(ptx).expect("PTX is text");
        let mut subject = Self {
            context: Arc::clone(&context),
            kernel,
            ptx,
            device: 0,
            device_to_free: 0,
            pinned: ptr::null_mut(),
            pinned_to_free: ptr::null_mut(),
            pageable: vec![1; BYTES],
            module: ptr::null_mut(),
            stream: ptr::null_mut(),
            event: ptr::null_mut(),
            graph,
            graph_stream,
        };
        let flags = raw::CUstream_flags_enum::CU_STREAM_NON_BLOCKING as c_uint;
        context.call("cuda.probe", "preparing the hazards", || {
            raw_call!(
                raw::cuMemAlloc_v2(&raw mut subject.device, BYTES),
                raw::cuMemAlloc_v2(&raw mut subject.device_to_free, BYTES),
                raw::cuMemHostAlloc(&raw mut subject.pinned, BYTES, raw::CU_MEMHOSTALLOC_DEVICEMAP),
                raw::cuMemHostAlloc(&raw mut subject.pinned_to_free, BYTES, raw::CU_MEMHOSTALLOC_DEVICEMAP),
                raw::cuModuleLoadData(&raw mut subject.module, text.as_ptr().cast()),
                raw::cuStreamCreate(&raw mut subject.stream, flags),
                raw::cuEventCreate(&raw mut subject.event, 0),
                raw::cuMemsetD8Async(subject.device, 0, BYTES, subject.stream),
                raw::cuStreamSynchronize(subject.stream),
            )
        })?;
        Ok(subject)
    }
}

/// The hazard of this name.
///
/// # Errors
/// `NotFound`, with the names there are.
pub(super) fn find(name: &str) -> Result<&'static Hazard, Error> {
    HAZARDS.iter().find(|hazard| hazard.name == name).ok_or_else(|| {
        let names: Vec<_> = HAZARDS.iter().map(|hazard| hazard.name).collect();
        Error::new(ErrorKind::NotFound, "cuda.probe", format!("there is no hazard `{name}`; there are: {names:?}"))
    })
}

impl Hazard {
    /// Makes the call in this thread.
    pub(super) fn meet(&self, subject: &Subject) -> Result<(), Error> {
        subject.context.call("cuda.probe", self.name, || (self.call)(subject))
    }
}

/// Blocks and threads for a launch that is timed.
pub(super) const ONE_WARP: Shape = Shape { blocks: 1, threads: 32 };
