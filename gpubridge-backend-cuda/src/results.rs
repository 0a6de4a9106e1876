//! What the driver's results mean to a caller: by their numbers, which are the same in every version of CUDA.

use gpubridge_abstractions::ErrorKind;

/// What to do once a device is lost: CUDA has no way to open it again in the same process.
pub(crate) const RESTART: &str = "restart the process to open the device again";

/// The kind of a result that is none of success, and what to do about it.
pub(crate) fn meaning(result: u32) -> (ErrorKind, &'static str) {
    match result {
        1 => (ErrorKind::InvalidArgument, "the driver accepts no such argument"),
        2 => (ErrorKind::OutOfMemory, "end other programs that use the GPU, or ask for less"),
        34 => (ErrorKind::Unsupported, "libcuda.so.1 is a stub for linking: have the loader find the driver's own"),
        46 => (
            ErrorKind::Unsupported,
            "another program has the device for itself, or it failed: see nvidia-smi, which also changes its compute mode",
        ),
        100 => (ErrorKind::Unsupported, "see whether nvidia-smi shows a device, and CUDA_VISIBLE_DEVICES names it"),
        209 | 218 | 222 => (ErrorKind::Unsupported, "install a newer driver"),
        221 => (
            ErrorKind::Unsupported,
            "libnvidia-ptxjitcompiler.so.1 is missing: install the driver's other libraries too",
        ),
        720 => (ErrorKind::Unsupported, "the ring's blocks do not all fit on the device: use fewer lanes"),
        801 => (ErrorKind::Unsupported, "the device or its driver cannot do this: use another device"),
        802 => (
            ErrorKind::Unsupported,
            "the machine's GPUs are not set up: start nvidia-fabricmanager, and see nvidia-smi",
        ),
        803 => (
            ErrorKind::Unsupported,
            "the driver's library and its kernel module differ: restart the machine, until nvidia-smi works",
        ),
        804 => {
            (ErrorKind::Unsupported, "the device does not run with this compatibility package: install a newer driver")
        }
        // After these the context is of no use: the driver shuts down; memory or a link is damaged; a kernel failed.
        4 | 214 | 220 | 700 | 702 | 709 | 710 | 714..=719 | 999 => (ErrorKind::DeviceLost, RESTART),
        _ => (ErrorKind::Io, "see nvidia-smi and the system's log, then try again"),
    }
}
