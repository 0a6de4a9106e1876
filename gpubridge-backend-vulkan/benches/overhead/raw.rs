//! The least program on `ash` that executes batches as the backend does: the same shader, arguments and barriers, one command
//! buffer that is recorded once, one timeline. It has no ring, no lists to gather, no errors to tell.

use std::time::Duration;

use ash::{Device, Entry, Instance, vk};
use gpubridge_kernels::vulkan::{ANSWER_BYTES, AnswerRecord, OPERATION_WORDS, Operation, WALK};

use crate::memory::{Mapped, Memory};
use crate::work::{BATCH_MAX, BLOCK_BYTES, ELEMENTS, SPIN, SUM, sum_of, value_of};

const OPERATION_BYTES: usize = OPERATION_WORDS * 4;
// Where things lie in the arguments.
const GROUPS: usize = 0;
const LISTS: usize = 256;
const OPERATIONS: usize = LISTS + BATCH_MAX * 8;
const ARGUMENTS_BYTES: usize = OPERATIONS + BATCH_MAX * OPERATION_BYTES;
const PUSH_BYTES: u32 = 24;

/// How long it waits at once.
const WAIT: Duration = Duration::from_secs(120);

type Stage = vk::PipelineStageFlags;
type Access = vk::AccessFlags;
type Made<T> = Result<T, vk::Result>;

/// The program.
pub struct Raw {
    device: Device,
    queue: vk::Queue,
    timeline: vk::Semaphore,
    value: u64,
    arguments: Mapped,
    results: Mapped,
    numbers: Memory,
    commands: vk::CommandBuffer,
    pool: vk::CommandPool,
    layout: vk::PipelineLayout,
    pipeline: vk::Pipeline,
    instance: Instance,
    // The loader stays loaded as long as anything of it is used.
    _entry: Entry,
}

impl Raw {
    /// The program on the device with this UUID, its blocks filled.
    pub fn new(uuid: [u8; vk::UUID_SIZE]) -> Made<Self> {
        // SAFETY: the library that is found by the loader's name is the loader.
        let entry = unsafe { Entry::load() }.map_err(|_| vk::Result::ERROR_INITIALIZATION_FAILED)?;
        let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_2);
        let info = vk::InstanceCreateInfo::default().application_info(&application);
        // SAFETY: what the info points to outlives the call.
        let instance = unsafe { entry.create_instance(&info, None) }?;
        // SAFETY: the instance is alive.
        let devices = unsafe { instance.enumerate_physical_devices() }?;
        let found = devices.into_iter().find(|&device| uuid_of(&instance, device) == uuid);
        let physical = found.ok_or(vk::Result::ERROR_DEVICE_LOST)?;
        let (device, family, has_memory_model) = open(&instance, physical)?;
        // SAFETY: the device was made with this queue.
        let queue = unsafe { device.get_device_queue(family, 0) };
        let mut kind = vk::SemaphoreTypeCreateInfo::default().semaphore_type(vk::SemaphoreType::TIMELINE);
        let info = vk::SemaphoreCreateInfo::default().push_next(&mut kind);
        // SAFETY: the device is alive.
        let timeline = unsafe { device.create_semaphore(&info, None) }?;
        // SAFETY: the instance is alive and the device one of its.
        let types = unsafe { instance.get_physical_device_memory_properties(physical) };
        let arguments = Mapped::arguments(&device, &types, ARGUMENTS_BYTES)?;
        let results = Mapped::results(&device, &types, BATCH_MAX * ANSWER_BYTES)?;
        let numbers = Memory::of_device(&device, &types, BATCH_MAX as u64 * BLOCK_BYTES)?;
        let (layout, pipeline) = pipeline(&device, has_memory_model)?;
        let info = vk::CommandPoolCreateInfo::default().queue_family_index(family);
        // SAFETY: the device is alive and has the family.
        let pool = unsafe { device.create_command_pool(&info, None) }?;
        let info = vk::CommandBufferAllocateInfo::default().command_pool(pool).command_buffer_count(2);
        // SAFETY: the pool is the device's.
        let buffers = unsafe { device.allocate_command_buffers(&info) }?;
        let (commands, fill) = (buffers[0], buffers[1]);
        let (value, _entry) = (0, entry);
        let mut made = Self {
            device,
            queue,
            timeline,
            value,
            arguments,
            results,
            numbers,
            commands,
            pool,
            layout,
            pipeline,
            instance,
            _entry,
        };
        made.record_fill(fill)?;
        made.submit(fill)?;
        made.wait()?;
        made.record_walk()?;
        Ok(made)
    }

    /// Executes a batch of so many calls, a list each, and checks every answer.
    pub fn run(&mut self, calls: usize) {
        for call in 0..calls {
            let list = [call as u32, 1];
            self.arguments.write(LISTS + 8 * call, &list);
            let operation = Operation::new(SUM, ELEMENTS)
                .with_buffer(0, self.numbers.address() + call as u64 * BLOCK_BYTES, ELEMENTS)
                .with_answer(call as u32);
            self.arguments.write(OPERATIONS + call * OPERATION_BYTES, &operation.0);
            self.results.write(call * ANSWER_BYTES, &[0_u32; ANSWER_BYTES / 4]);
        }
        self.arguments.write(GROUPS, &[calls as u32, 1, 1]);
        self.submit(self.commands).expect("the driver takes the batch");
        self.wait().expect("the batch lands");
        for call in 0..calls {
            let answer = AnswerRecord::from_bytes(&self.results.read(call * ANSWER_BYTES));
            assert!(answer.is_known, "call {call} is not answered");
            assert_eq!(answer.payload[0], sum_of(call), "call {call}");
        }
    }

    fn submit(&mut self, commands: vk::CommandBuffer) -> Made<()> {
        self.value += 1;
        let (commands, semaphores, values) = ([commands], [self.timeline], [self.value]);
        let mut timeline = vk::TimelineSemaphoreSubmitInfo::default().signal_semaphore_values(&values);
        let info = [vk::SubmitInfo::default()
            .command_buffers(&commands)
            .signal_semaphores(&semaphores)
            .push_next(&mut timeline)];
        // SAFETY: one thread uses the queue; the command buffer is recorded and not under way.
        unsafe { self.device.queue_submit(self.queue, &info, vk::Fence::null()) }
    }

    /// Looks for a while, then waits, as the backend does.
    fn wait(&self) -> Made<()> {
        let since = std::time::Instant::now();
        while since.elapsed() < SPIN {
            // SAFETY: the semaphore is the device's.
            if unsafe { self.device.get_semaphore_counter_value(self.timeline) }? >= self.value {
                return Ok(());
            }
            std::hint::spin_loop();
        }
        let (semaphores, values) = ([self.timeline], [self.value]);
        let info = vk::SemaphoreWaitInfo::default().semaphores(&semaphores).values(&values);
        // SAFETY: the semaphore is the device's.
        unsafe { self.device.wait_semaphores(&info, WAIT.as_nanos() as u64) }
    }

    fn barrier(&self, commands: vk::CommandBuffer, from: (Stage, Access), to: (Stage, Access)) {
        let barriers = [vk::MemoryBarrier::default().src_access_mask(from.1).dst_access_mask(to.1)];
        let none = vk::DependencyFlags::empty();
        // SAFETY: the command buffer is being recorded.
        unsafe { self.device.cmd_pipeline_barrier(commands, from.0, to.0, none, &barriers, &[], &[]) };
    }

    /// Fills each block with numbers of its own.
    fn record_fill(&self, commands: vk::CommandBuffer) -> Made<()> {
        // SAFETY: the command buffer is new.
        unsafe { self.device.begin_command_buffer(commands, &vk::CommandBufferBeginInfo::default()) }?;
        for call in 0..BATCH_MAX {
            let at = call as u64 * BLOCK_BYTES;
            // SAFETY: the command buffer is being recorded; the block lies in the buffer.
            unsafe { self.device.cmd_fill_buffer(commands, self.numbers.buffer(), at, BLOCK_BYTES, value_of(call)) };
        }
        let to = (Stage::COMPUTE_SHADER, Access::SHADER_READ);
        self.barrier(commands, (Stage::TRANSFER, Access::TRANSFER_WRITE), to);
        // SAFETY: the command buffer is being recorded.
        unsafe { self.device.end_command_buffer(commands) }
    }

    /// Records what each batch submits, with the barriers of the backend's.
    fn record_walk(&self) -> Made<()> {
        let (device, commands) = (&self.device, self.commands);
        // SAFETY: the command buffer is new.
        unsafe { device.begin_command_buffer(commands, &vk::CommandBufferBeginInfo::default()) }?;
        let from = (Stage::COMPUTE_SHADER | Stage::HOST, Access::SHADER_WRITE | Access::HOST_WRITE);
        let to = Access::SHADER_READ | Access::SHADER_WRITE | Access::INDIRECT_COMMAND_READ;
        self.barrier(commands, from, (Stage::COMPUTE_SHADER | Stage::DRAW_INDIRECT, to));
        // SAFETY: the command buffer is being recorded, the pipeline is the device's.
        unsafe { device.cmd_bind_pipeline(commands, vk::PipelineBindPoint::COMPUTE, self.pipeline) };
        let arguments = self.arguments.address();
        let given = [arguments + LISTS as u64, arguments + OPERATIONS as u64, self.results.address()];
        let bytes: Vec<u8> = given.iter().flat_map(|address| address.to_le_bytes()).collect();
        // SAFETY: the command buffer is being recorded; the layout has as many bytes.
        unsafe { device.cmd_push_constants(commands, self.layout, vk::ShaderStageFlags::COMPUTE, 0, &bytes) };
        // SAFETY: the command buffer is being recorded; there are three words at the offset.
        unsafe { device.cmd_dispatch_indirect(commands, self.arguments.buffer(), GROUPS as u64) };
        let to = Access::SHADER_READ | Access::SHADER_WRITE | Access::HOST_READ;
        let from = (Stage::COMPUTE_SHADER, Access::SHADER_WRITE);
        self.barrier(commands, from, (Stage::COMPUTE_SHADER | Stage::HOST, to));
        // SAFETY: the command buffer is being recorded.
        unsafe { device.end_command_buffer(commands) }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let device = &self.device;
        // SAFETY: every batch was waited for, so nothing is under way with anything of the device.
        unsafe { device.destroy_command_pool(self.pool, None) };
        // SAFETY: as above.
        unsafe { device.destroy_pipeline(self.pipeline, None) };
        // SAFETY: as above.
        unsafe { device.destroy_pipeline_layout(self.layout, None) };
        for memory in [&self.numbers, self.arguments.memory(), self.results.memory()] {
            memory.free(device);
        }
        // SAFETY: as above.
        unsafe { device.destroy_semaphore(self.timeline, None) };
        // SAFETY: all that was made of it is destroyed.
        unsafe { device.destroy_device(None) };
        // SAFETY: as above.
        unsafe { self.instance.destroy_instance(None) };
    }
}

fn uuid_of(instance: &Instance, device: vk::PhysicalDevice) -> [u8; vk::UUID_SIZE] {
    let mut ids = vk::PhysicalDeviceIDProperties::default();
    let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut ids);
    // SAFETY: the instance is alive and the device is one of its.
    unsafe { instance.get_physical_device_properties2(device, &mut properties) };
    ids.device_uuid
}

/// Opens the device: with it come the queue's family and whether the device has the Vulkan memory model.
fn open(instance: &Instance, physical: vk::PhysicalDevice) -> Made<(Device, u32, bool)> {
    let mut has = vk::PhysicalDeviceVulkan12Features::default();
    let mut features = vk::PhysicalDeviceFeatures2::default().push_next(&mut has);
    // SAFETY: the instance is alive and the device is one of its.
    unsafe { instance.get_physical_device_features2(physical, &mut features) };
    let has_memory_model = has.vulkan_memory_model == vk::TRUE;
    // SAFETY: as above.
    let families = unsafe { instance.get_physical_device_queue_family_properties(physical) };
    let computes = |family: &vk::QueueFamilyProperties| family.queue_flags.contains(vk::QueueFlags::COMPUTE);
    let family = families.iter().position(computes).ok_or(vk::Result::ERROR_FEATURE_NOT_PRESENT)? as u32;
    let queues = [vk::DeviceQueueCreateInfo::default().queue_family_index(family).queue_priorities(&[1.0])];
    let features = vk::PhysicalDeviceFeatures::default().shader_float64(true);
    let mut features12 = vk::PhysicalDeviceVulkan12Features::default()
        .timeline_semaphore(true)
        .buffer_device_address(true)
        .vulkan_memory_model(has_memory_model);
    let info = vk::DeviceCreateInfo::default()
        .queue_create_infos(&queues)
        .enabled_features(&features)
        .push_next(&mut features12);
    // SAFETY: the device is one of the instance's, and has what is asked for: the backend opened it with the same.
    let device = unsafe { instance.create_device(physical, &info, None) }?;
    Ok((device, family, has_memory_model))
}

/// The shader for the one kernel.
fn pipeline(device: &Device, has_memory_model: bool) -> Made<(vk::PipelineLayout, vk::Pipeline)> {
    let ranges = [vk::PushConstantRange::default().stage_flags(vk::ShaderStageFlags::COMPUTE).size(PUSH_BYTES)];
    let info = vk::PipelineLayoutCreateInfo::default().push_constant_ranges(&ranges);
    // SAFETY: the device is alive and the info is valid.
    let layout = unsafe { device.create_pipeline_layout(&info, None) }?;
    let code = WALK.words(has_memory_model);
    let info = vk::ShaderModuleCreateInfo::default().code(&code);
    // SAFETY: the code is SPIR-V that was checked when it was made.
    let module = unsafe { device.create_shader_module(&info, None) }?;
    let (constants, data) = ([vk::SpecializationMapEntry::default().size(4)], SUM.to_ne_bytes());
    let specialization = vk::SpecializationInfo::default().map_entries(&constants).data(&data);
    let stage = vk::PipelineShaderStageCreateInfo::default()
        .stage(vk::ShaderStageFlags::COMPUTE)
        .module(module)
        .specialization_info(&specialization)
        .name(c"main");
    let info = [vk::ComputePipelineCreateInfo::default().stage(stage).layout(layout)];
    // SAFETY: module and layout are the device's.
    let made = unsafe { device.create_compute_pipelines(vk::PipelineCache::null(), &info, None) };
    // SAFETY: a pipeline does without its module.
    unsafe { device.destroy_shader_module(module, None) };
    Ok((layout, made.map_err(|(_, result)| result)?[0]))
}
