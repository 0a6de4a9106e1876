//! The shaders as the device runs them.

use std::sync::Arc;

use ash::vk;
use gpubridge_abstractions::{Error, ErrorKind};
use gpubridge_kernels::vulkan;
use parking_lot::Mutex;

use super::{Gpu, failed};

/// Words of push constants: the larger of the two shaders'.
pub(super) const PUSH_WORDS: usize = 7;

/// A pipeline: one of the two shaders, for one kernel, all of them or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// Walks lists.
    Walk(u32),
    /// Is run by a grid.
    Grid(u32),
}

/// The pipelines of a device. Each is made once, when the first kernel is compiled that needs it.
#[derive(Debug)]
pub(crate) struct Pipelines {
    gpu: Arc<Gpu>,
    layout: vk::PipelineLayout,
    made: Mutex<Vec<(Program, vk::Pipeline)>>,
}

impl Pipelines {
    pub(crate) fn new(gpu: &Arc<Gpu>, operation: &'static str) -> Result<Self, Error> {
        let bytes = PUSH_WORDS as u32 * 4;
        let ranges = [vk::PushConstantRange::default().stage_flags(vk::ShaderStageFlags::COMPUTE).size(bytes)];
        let info = vk::PipelineLayoutCreateInfo::default().push_constant_ranges(&ranges);
        // SAFETY: the device is alive and the info is valid.
        let layout = unsafe { gpu.functions().create_pipeline_layout(&info, None) }
            .map_err(|result| failed(operation, "a pipeline layout could not be made", result))?;
        Ok(Self { gpu: Arc::clone(gpu), layout, made: Mutex::default() })
    }

    /// The pipeline of `program`, which is made if there is none.
    ///
    /// # Errors
    /// `KernelBuild` when the driver rejects it.
    pub(crate) fn get(&self, program: Program, operation: &'static str) -> Result<vk::Pipeline, Error> {
        if let Some(pipeline) = self.find(program) {
            return Ok(pipeline);
        }
        // Without the lock, for which the owner thread would wait.
        let pipeline = self.compile(program, operation)?;
        let mut made = self.made.lock();
        if let Some((_, earlier)) = made.iter().find(|(known, _)| *known == program) {
            // SAFETY: nobody knows of it.
            unsafe { self.gpu.functions().destroy_pipeline(pipeline, None) };
            return Ok(*earlier);
        }
        made.push((program, pipeline));
        Ok(pipeline)
    }

    /// The pipeline of `program`, if it was made.
    pub(crate) fn find(&self, program: Program) -> Option<vk::Pipeline> {
        self.made.lock().iter().find(|(known, _)| *known == program).map(|(_, pipeline)| *pipeline)
    }

    fn compile(&self, program: Program, operation: &'static str) -> Result<vk::Pipeline, Error> {
        let (shader, only) = match program {
            Program::Walk(only) => (&vulkan::WALK, only),
            Program::Grid(only) => (&vulkan::GRID, only),
        };
        let functions = self.gpu.functions();
        let refuse = |result: vk::Result| {
            // What has nothing to do with the shader is not laid at its door.
            let other = failed(operation, "a pipeline could not be made", result);
            if matches!(other.kind(), ErrorKind::OutOfMemory | ErrorKind::DeviceLost) {
                return other;
            }
            let why = format!("the driver rejects the shader `{}`: {result:?}: update the driver", shader.name);
            Error::new(ErrorKind::KernelBuild, operation, why).with_source(result)
        };
        let code = shader.words(self.gpu.physical().has_memory_model);
        let info = vk::ShaderModuleCreateInfo::default().code(&code);
        // SAFETY: the code is SPIR-V that was checked when it was made.
        let module = unsafe { functions.create_shader_module(&info, None) }.map_err(refuse)?;
        let (constants, data) = ([vk::SpecializationMapEntry::default().size(4)], only.to_ne_bytes());
        let specialization = vk::SpecializationInfo::default().map_entries(&constants).data(&data);
        let stage = vk::PipelineShaderStageCreateInfo::default()
            .stage(vk::ShaderStageFlags::COMPUTE)
            .module(module)
            .specialization_info(&specialization)
            .name(c"main");
        let info = [vk::ComputePipelineCreateInfo::default().stage(stage).layout(self.layout)];
        // SAFETY: module and layout are the device's.
        let made = unsafe { functions.create_compute_pipelines(vk::PipelineCache::null(), &info, None) };
        // SAFETY: a pipeline does without its module.
        unsafe { functions.destroy_shader_module(module, None) };
        made.map(|pipelines| pipelines[0]).map_err(|(_, result)| refuse(result))
    }

    pub(crate) fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    pub(crate) fn layout(&self) -> vk::PipelineLayout {
        self.layout
    }
}

impl Drop for Pipelines {
    fn drop(&mut self) {
        if self.gpu.is_abandoned() {
            return;
        }
        for (_, pipeline) in self.made.get_mut() {
            // SAFETY: command buffers keep the pipelines, so none is under way with it.
            unsafe { self.gpu.functions().destroy_pipeline(*pipeline, None) };
        }
        // SAFETY: as above.
        unsafe { self.gpu.functions().destroy_pipeline_layout(self.layout, None) };
    }
}
