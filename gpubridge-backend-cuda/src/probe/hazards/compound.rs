//! Hazards of several calls that belong together.
#![expect(unsafe_code, reason = "foreign calls, as all hazards")]

use std::ffi::{CStr, CString};
use std::ptr;

use gpubridge_abstractions::{ElementType, ErrorKind, KernelId, KernelSpec};

use super::{BYTES, Subject};
use crate::driver::{Object, Part, raw};
use crate::users;

/// What NVRTC is given.
const SOURCE: &str = "#include \"gpubridge.cuh\"\nstruct Nothing : gb::UserKernel {\n    template <class Team>\n    \
                      GB_MEMBER static void run(const Team &, const gb::Call &, gb::Answer &) {}\n};\nGPUBRIDGE_KERNEL(Nothing)\n";
/// Of the device whose rings run.
const CAPABILITY: (u32, u32) = (9, 0);
/// A multiple of what any device maps at a time.
const MAPPED_BYTES: usize = 32 << 20;

/// Links the ring's module anew, as for a user's kernel.
pub(super) fn link(subject: &Subject) -> raw::CUresult {
    let Ok(ptx) = CString::new(subject.ptx) else { return raw::CUresult::CUDA_ERROR_INVALID_VALUE };
    let ring = Part { name: "ring", object: &Object::Ptx(ptx), registers_max: None };
    match subject.context.link(&[ring]) {
        Ok(_) => raw::CUresult::CUDA_SUCCESS,
        Err(_) => raw::CUresult::CUDA_ERROR_INVALID_IMAGE,
    }
}

/// Compiles a kernel by NVRTC, which asks nothing of a device.
pub(super) fn compile(_: &Subject) -> raw::CUresult {
    let spec = KernelSpec::new(KernelId::FIRST_USER).of(ElementType::U32);
    match users::compile_source("nothing", SOURCE, CAPABILITY, &spec, 0, "nothing") {
        Ok(_) => raw::CUresult::CUDA_SUCCESS,
        Err(error) if error.kind() == ErrorKind::Unsupported => raw::CUresult::CUDA_ERROR_NOT_FOUND,
        Err(_) => raw::CUresult::CUDA_ERROR_INVALID_SOURCE,
    }
}

/// Launches the kernel in a context of its own, in time slices with the ring's.
pub(super) fn second_context(subject: &Subject) -> raw::CUresult {
    const NAME: &CStr = c"gpubridge_beside_finish";
    let Ok(text) = CString::new(subject.ptx) else { return raw::CUresult::CUDA_ERROR_INVALID_VALUE };
    let (mut device, mut record) = (0, 0);
    let (mut context, mut module, mut kernel) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    let mut argument = (&raw mut record).cast();
    raw_call!(
        raw::cuCtxGetDevice(&raw mut device),
        raw::cuCtxCreate_v4(&raw mut context, ptr::null_mut(), 0, device),
        raw::cuModuleLoadData(&raw mut module, text.as_ptr().cast()),
        raw::cuModuleGetFunction(&raw mut kernel, module, NAME.as_ptr()),
        raw::cuMemAlloc_v2(&raw mut record, BYTES),
        raw::cuMemsetD8_v2(record, 0, BYTES),
        raw::cuLaunchKernel(kernel, 1, 1, 1, 32, 1, 1, 0, ptr::null_mut(), &raw mut argument, ptr::null_mut()),
        raw::cuCtxSynchronize(),
        raw::cuCtxDestroy_v2(context),
    )
}

/// A pool that grows, is trimmed and destroyed.
pub(super) fn pool(subject: &Subject) -> raw::CUresult {
    let (mut pool, mut address) = (ptr::null_mut(), 0);
    let properties = raw::CUmemPoolProps {
        allocType: raw::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED,
        handleTypes: raw::CUmemAllocationHandleType::CU_MEM_HANDLE_TYPE_NONE,
        location: on_first_device(),
        win32SecurityAttributes: ptr::null_mut(),
        maxSize: 0,
        usage: 0,
        reserved: [0; _],
    };
    raw_call!(
        raw::cuMemPoolCreate(&raw mut pool, &raw const properties),
        raw::cuMemAllocFromPoolAsync(&raw mut address, 64 * BYTES, pool, subject.stream),
        raw::cuMemFreeAsync(address, subject.stream),
        raw::cuStreamSynchronize(subject.stream),
        raw::cuMemPoolTrimTo(pool, 0),
        raw::cuMemPoolDestroy(pool),
    )
}

/// Memory that is mapped to an address range of its own, and given back.
pub(super) fn virtual_memory(_: &Subject) -> raw::CUresult {
    let (mut address, mut handle) = (0, 0);
    let properties = raw::CUmemAllocationProp {
        type_: raw::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED,
        requestedHandleTypes: raw::CUmemAllocationHandleType::CU_MEM_HANDLE_TYPE_NONE,
        location: on_first_device(),
        win32HandleMetaData: ptr::null_mut(),
        allocFlags: raw::CUmemAllocationProp_st__bindgen_ty_1 {
            compressionType: 0,
            gpuDirectRDMACapable: 0,
            usage: 0,
            reserved: [0; _],
        },
    };
    let access = raw::CUmemAccessDesc {
        location: on_first_device(),
        flags: raw::CUmemAccess_flags::CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
    };
    raw_call!(
        raw::cuMemAddressReserve(&raw mut address, MAPPED_BYTES, 0, 0, 0),
        raw::cuMemCreate(&raw mut handle, MAPPED_BYTES, &raw const properties, 0),
        raw::cuMemMap(address, MAPPED_BYTES, 0, handle, 0),
        raw::cuMemSetAccess(address, MAPPED_BYTES, &raw const access, 1),
        raw::cuMemUnmap(address, MAPPED_BYTES),
        raw::cuMemRelease(handle),
        raw::cuMemAddressFree(address, MAPPED_BYTES),
    )
}

/// The device with number 0, on which hazards are met.
fn on_first_device() -> raw::CUmemLocation {
    let __bindgen_anon_1 = raw::CUmemLocation_st__bindgen_ty_1 { id: 0 };
    raw::CUmemLocation { type_: raw::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE, __bindgen_anon_1 }
}
