//! For whoever has a GPU at hand: what its driver reports, what a launch costs beside a ring, and which calls of the driver a
//! running ring holds up. Not a part of what a program uses; the `gpu` example runs it.

mod hazards;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gpubridge_abstractions::{
    Backend, Command, DeviceIndex, Error, ErrorKind, KernelSpec, MemoryType, Opcode, RingConfig, Taken,
};
use gpubridge_kernels::KernelLibrary;

use crate::driver::{DeviceAttribute as Attribute, Driver, Graph, Step, Stream};
use crate::gpu::{Gpu, Part};
use crate::heap::Kind;
use crate::parameters::RECORD_BYTES;
use crate::users;
use crate::{CudaBackend, CudaConfig};

pub use hazards::{HAZARDS, Hazard};

/// What the driver reports of a device that bears on rings.
///
/// # Errors
/// Those of [`Backend::open`].
pub fn attributes(index: DeviceIndex) -> Result<Vec<(&'static str, String)>, Error> {
    let driver = Driver::load()?;
    let device = driver.device(index.0)?;
    let asked = [
        ("multiprocessors", Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT),
        ("clock, kHz", Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE),
        ("memory clock, kHz", Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE),
        ("memory bus, bits", Attribute::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH),
        ("copy engines", Attribute::CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT),
        ("PCI domain", Attribute::CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID),
        ("PCI bus", Attribute::CU_DEVICE_ATTRIBUTE_PCI_BUS_ID),
        ("host native atomics", Attribute::CU_DEVICE_ATTRIBUTE_HOST_NATIVE_ATOMIC_SUPPORTED),
        ("kernel execution time-out", Attribute::CU_DEVICE_ATTRIBUTE_KERNEL_EXEC_TIMEOUT),
        ("GPUDirect RDMA", Attribute::CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED),
        ("DMA-BUF", Attribute::CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED),
        ("cooperative launch", Attribute::CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH),
        ("concurrent managed access", Attribute::CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS),
    ];
    // An attribute that the driver does not know says so in its place.
    let values = asked.map(|(name, attribute)| {
        (name, device.attribute(attribute).map_or_else(|error| error.to_string(), |value| value.to_string()))
    });
    let gpu = Gpu::open(driver, index.0, CudaConfig::default())?;
    let posting = gpu.region.as_ref().map_or_else(|why| format!("no: {why}"), |_| "yes".into());
    let place = |attribute| device.attribute(attribute).unwrap_or_default();
    let (domain, bus, slot) = (
        place(Attribute::CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID),
        place(Attribute::CU_DEVICE_ATTRIBUTE_PCI_BUS_ID),
        place(Attribute::CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID),
    );
    // As Linux shows it; what a machine hides says so.
    let pci = |file: &str| {
        let path = format!("/sys/bus/pci/devices/{domain:04x}:{bus:02x}:{slot:02x}.0/{file}");
        fs::read_to_string(&path).map_or_else(|error| format!("{path}: {error}"), |text| text.trim().to_owned())
    };
    let loading = if driver.loads_eagerly()? { "with their module" } else { "when they are first used" };
    let gdrdrv = if Path::new("/dev/gdrdrv").exists() { "there, not used" } else { "not there" };
    let limits = [
        ("driver, CUDA", driver.version()?.to_string()),
        ("threads of a ring's block", gpu.limits.ring_threads.to_string()),
        ("blocks of a ring at the most", (gpu.limits.units / 8).max(1).to_string()),
        ("blocks of rings on the device at once", gpu.limits.ring_blocks.to_string()),
        ("commands posted to device memory, by DMA-BUF", posting),
        ("another way to device memory, gdrdrv", gdrdrv.into()),
        ("another way to device memory, an export by Vulkan", "not tried".into()),
        ("NUMA node", pci("numa_node")),
        // A range a line: the second one that is not empty is what the host reaches the memory through.
        ("BARs: first byte, last byte, flags", pci("resource").lines().take(6).collect::<Vec<_>>().join("; ")),
        ("functions are loaded", loading.into()),
    ];
    Ok(values.into_iter().chain(limits).collect())
}

/// Compiles a kernel of a user's own that one block runs beside a ring to machine code that defines `function`, for a device of this
/// compute capability, of which none has to be there.
///
/// # Errors
/// `Unsupported` without NVRTC; `KernelBuild` with the compiler's text.
pub fn compile(
    name: &str,
    source: &str,
    capability: (u32, u32),
    spec: &KernelSpec,
    function: &str,
) -> Result<Vec<u8>, Error> {
    users::compile_source(name, source, capability, spec, 0, function)
}

/// The ways without a ring: a kernel of one warp is launched, by itself or as a graph, and waited for.
#[derive(Debug)]
pub struct Launches {
    gpu: Arc<Gpu>,
    graph: Graph,
    stream: Stream,
    record: Part,
}

impl Launches {
    /// On the device with this index.
    ///
    /// # Errors
    /// Those of [`Backend::open`].
    pub fn new(index: DeviceIndex) -> Result<Self, Error> {
        let gpu = Gpu::open(Driver::load()?, index.0, CudaConfig::default())?;
        let stream = gpu.context.stream()?;
        let record = gpu.take(Kind::Device, RECORD_BYTES)?;
        let graph = Graph::new(&gpu.context, &[Self::step(&gpu, &record)], &stream)?;
        Ok(Self { gpu, graph, stream, record })
    }

    fn step(gpu: &Gpu, record: &Part) -> Step {
        let function = gpu.with_program(|program| program.functions.beside_finish);
        Step { function, shape: hazards::ONE_WARP, arguments: [record.address(), 0, 0, 0] }
    }

    /// Launches so many times, one behind the other, and waits once.
    ///
    /// # Errors
    /// When the driver fails.
    pub fn launch_and_wait(&self, times: usize) -> Result<(), Error> {
        let Step { function, shape, arguments: [record, ..] } = Self::step(&self.gpu, &self.record);
        (0..times).try_for_each(|_| self.stream.launch(function, shape, false, [&[record]]))?;
        self.stream.wait()
    }

    /// Launches a graph of the one kernel, with its argument set anew, and waits.
    ///
    /// # Errors
    /// When the driver fails.
    pub fn launch_graph_and_wait(&self) -> Result<(), Error> {
        self.graph.launch([Self::step(&self.gpu, &self.record)].into_iter(), &self.stream)?;
        self.stream.wait()
    }
}

/// The copy engine by itself: page-locked memory of the host and memory of the device, copied whole and waited for.
#[derive(Debug)]
pub struct Copies {
    stream: Stream,
    host: Part,
    device: Part,
}

impl Copies {
    /// Of so many bytes, on the device with this index.
    ///
    /// # Errors
    /// Those of [`Backend::open`]; `OutOfMemory`.
    pub fn new(index: DeviceIndex, size_bytes: u64) -> Result<Self, Error> {
        let gpu = Gpu::open(Driver::load()?, index.0, CudaConfig::default())?;
        let stream = gpu.context.stream()?;
        Ok(Self { stream, host: gpu.take(Kind::Pinned, size_bytes)?, device: gpu.take(Kind::Device, size_bytes)? })
    }

    /// Copies to the device, once.
    ///
    /// # Errors
    /// When the driver fails.
    pub fn to_device(&self) -> Result<(), Error> {
        self.stream.copy(self.device.address(), self.host.address(), self.host.size_bytes())?;
        self.stream.wait()
    }

    /// Copies to the host, once.
    ///
    /// # Errors
    /// When the driver fails.
    pub fn to_host(&self) -> Result<(), Error> {
        self.stream.copy(self.host.address(), self.device.address(), self.host.size_bytes())?;
        self.stream.wait()
    }
}

/// What a call did while a ring ran.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// How long it took. A call that never returns has no outcome: its process is to be ended.
    pub took: Duration,
    /// Whether the ring answered afterwards.
    pub ring_answers: bool,
}

/// Makes the call of this name while an idle ring runs. `ready` is called when all is prepared, just before the call, and `met`
/// when it has returned, before anything is given back: whoever waits outside counts between the two.
///
/// # Errors
/// `NotFound` for an unknown name; what the call returned, if it failed.
pub fn meet_hazard(
    index: DeviceIndex,
    name: &str,
    ready: impl FnOnce(),
    met: impl FnOnce(&Outcome),
) -> Result<(), Error> {
    let hazard = hazards::find(name)?;
    let gpu = Gpu::open(Driver::load()?, index.0, CudaConfig::default())?;
    let subject = hazards::Subject::new(
        Arc::clone(&gpu.context),
        gpu.with_program(|program| program.functions.beside_finish),
        gpubridge_kernels::cuda::PTX,
    )?;
    let device = CudaBackend::new(KernelLibrary::empty()).open(index)?;
    // So that launching the ring asks the driver for nothing afterwards.
    drop(device.reserve(1, MemoryType::Default)?);
    let ring = device.launch(RingConfig { lanes: 1, slots: 64, staging_bytes: 64, allocations: 64 })?;
    ring.activate(Duration::from_secs(5))?;
    let mut lane = ring.take_lane(0).expect("nobody took it");
    let mut answers = |within: Duration| {
        let command = Command::new(Opcode::Echo, 1, [7; 7]);
        let Ok(mut ticket) = lane.submitter.try_submit(&command, &[]) else { return false };
        let until = Instant::now() + within;
        while Instant::now() < until {
            if let Taken::Ready(answer) = lane.completions.take(&mut ticket, &mut []) {
                return answer.payload == command.payload;
            }
        }
        false
    };
    if !answers(Duration::from_secs(2)) {
        return Err(Error::new(ErrorKind::DeviceLost, "cuda.probe", "the ring does not answer before the call"));
    }
    ready();
    let started = Instant::now();
    hazard.meet(&subject)?;
    let took = started.elapsed();
    met(&Outcome { took, ring_answers: answers(Duration::from_secs(2)) });
    Ok(())
}
