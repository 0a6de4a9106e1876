//! The loader and the driver's devices.

use std::collections::BTreeSet;
use std::ffi::{CStr, c_void};
use std::sync::Arc;

use ash::{Entry, StaticFn, ext, vk};
use gpubridge_abstractions::{Error, ErrorKind};
use parking_lot::Mutex;

use super::failed;

/// Where all functions come from.
pub(crate) type Loader = vk::PFN_vkGetInstanceProcAddr;

const LAYER: &CStr = c"VK_LAYER_KHRONOS_validation";

/// What the validation layer has said. Each message once.
#[derive(Debug, Default)]
pub(crate) struct Messages(Mutex<BTreeSet<String>>);

impl Messages {
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().iter().cloned().collect()
    }
}

/// The loader, and an instance of it.
pub(crate) struct Instance {
    instance: ash::Instance,
    messenger: Option<(ext::debug_utils::Instance, vk::DebugUtilsMessengerEXT)>,
    // The messenger writes here as long as it lives.
    messages: Arc<Messages>,
    // The loader stays loaded as long as anything of it is used.
    _entry: Entry,
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance").field("messages", &self.messages).finish_non_exhaustive()
    }
}

/// One of the driver's devices, as it was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Physical {
    pub(crate) handle: vk::PhysicalDevice,
    pub(crate) properties: vk::PhysicalDeviceProperties,
    pub(crate) uuid: [u8; vk::UUID_SIZE],
    pub(crate) memory: vk::PhysicalDeviceMemoryProperties,
    pub(crate) max_allocation_bytes: u64,
    pub(crate) subgroup_size: u32,
    /// The first queue family that computes.
    pub(crate) family: Option<u32>,
    pub(crate) has_timeline_semaphore: bool,
    pub(crate) has_buffer_device_address: bool,
    pub(crate) has_memory_model: bool,
    pub(crate) has_float64: bool,
}

impl Instance {
    /// Loads the loader and makes an instance, with the validation layer if `validates`.
    pub(crate) fn load(operation: &'static str, validates: bool, loader: Option<Loader>) -> Result<Self, Error> {
        let refuse = |why: String| Error::new(ErrorKind::Unsupported, operation, why);
        let entry = match loader {
            // SAFETY: who has given it has promised that it is one of Vulkan's.
            Some(get_instance_proc_addr) => unsafe { Entry::from_static_fn(StaticFn { get_instance_proc_addr }) },
            // SAFETY: the library that is found by the loader's name is the loader; its initialisers do what those of any
            // library do.
            None => unsafe { Entry::load() }.map_err(|error| {
                refuse("there is no Vulkan loader: install it (Debian: libvulkan1) with a driver".to_owned())
                    .with_source(error)
            })?,
        };
        let fail = |result| failed(operation, "an instance could not be made", result);
        // SAFETY: the entry is loaded.
        let version = unsafe { entry.try_enumerate_instance_version() }.map_err(fail)?.unwrap_or(vk::API_VERSION_1_0);
        if version < vk::API_VERSION_1_2 {
            let [major, minor] = [vk::api_version_major(version), vk::api_version_minor(version)];
            return Err(refuse(format!("the Vulkan loader is of version {major}.{minor}; 1.2 is needed: update it")));
        }
        // SAFETY: the entry is loaded.
        let layers = unsafe { entry.enumerate_instance_layer_properties() }.map_err(fail)?;
        if validates && !layers.iter().any(|layer| layer.layer_name_as_c_str() == Ok(LAYER)) {
            let why = "the validation layer is asked for and not there: install it (Debian: vulkan-validationlayers)";
            return Err(refuse(why.to_owned()));
        }
        let application =
            vk::ApplicationInfo::default().application_name(c"gpubridge").api_version(vk::API_VERSION_1_2);
        let (layers, extensions) = ([LAYER.as_ptr()], [ext::debug_utils::NAME.as_ptr()]);
        let enabled = [vk::ValidationFeatureEnableEXT::SYNCHRONIZATION_VALIDATION];
        let mut features = vk::ValidationFeaturesEXT::default().enabled_validation_features(&enabled);
        let messages = Arc::<Messages>::default();
        let mut reports = reports_to(&messages);
        let mut info = vk::InstanceCreateInfo::default().application_info(&application);
        if validates {
            info = info.enabled_layer_names(&layers).enabled_extension_names(&extensions);
            info = info.push_next(&mut features).push_next(&mut reports);
        }
        // SAFETY: what the info points to outlives the call.
        let instance = unsafe { entry.create_instance(&info, None) }.map_err(fail)?;
        let mut made = Self { instance, messenger: None, messages, _entry: entry };
        if validates {
            let functions = ext::debug_utils::Instance::new(&made._entry, &made.instance);
            // SAFETY: what the messenger writes to is kept as long as the instance.
            let messenger = unsafe { functions.create_debug_utils_messenger(&reports_to(&made.messages), None) };
            made.messenger = Some((functions, messenger.map_err(fail)?));
        }
        Ok(made)
    }

    pub(crate) fn functions(&self) -> &ash::Instance {
        &self.instance
    }

    /// What the validation layer has said.
    pub(crate) fn messages(&self) -> Vec<String> {
        self.messages.all()
    }

    /// The devices there are: discrete ones first, then integrated, virtual, others, and processors.
    pub(crate) fn devices(&self, operation: &'static str) -> Result<Vec<Physical>, Error> {
        // SAFETY: the instance is alive.
        let handles = unsafe { self.instance.enumerate_physical_devices() }
            .map_err(|result| failed(operation, "the devices could not be listed", result))?;
        let mut devices: Vec<_> = handles.into_iter().map(|handle| self.look_at(handle)).collect();
        devices.sort_by_key(|device| match device.properties.device_type {
            vk::PhysicalDeviceType::DISCRETE_GPU => 0,
            vk::PhysicalDeviceType::INTEGRATED_GPU => 1,
            vk::PhysicalDeviceType::VIRTUAL_GPU => 2,
            vk::PhysicalDeviceType::CPU => 4,
            _ => 3,
        });
        Ok(devices)
    }

    fn look_at(&self, handle: vk::PhysicalDevice) -> Physical {
        let mut ids = vk::PhysicalDeviceIDProperties::default();
        let mut limits = vk::PhysicalDeviceMaintenance3Properties::default();
        let mut subgroups = vk::PhysicalDeviceSubgroupProperties::default();
        let mut properties = vk::PhysicalDeviceProperties2::default()
            .push_next(&mut ids)
            .push_next(&mut limits)
            .push_next(&mut subgroups);
        // SAFETY: the instance is alive and the device is one of its.
        unsafe { self.instance.get_physical_device_properties2(handle, &mut properties) };
        let properties = properties.properties;
        let mut features12 = vk::PhysicalDeviceVulkan12Features::default();
        let mut features = vk::PhysicalDeviceFeatures2::default().push_next(&mut features12);
        // A device of an earlier version may not know what it is asked about; then it leaves all as it is, which is false.
        // SAFETY: as above.
        unsafe { self.instance.get_physical_device_features2(handle, &mut features) };
        let has_float64 = features.features.shader_float64 == vk::TRUE;
        // SAFETY: as above.
        let families = unsafe { self.instance.get_physical_device_queue_family_properties(handle) };
        // SAFETY: as above.
        let memory = unsafe { self.instance.get_physical_device_memory_properties(handle) };
        let computes = |family: &vk::QueueFamilyProperties| family.queue_flags.contains(vk::QueueFlags::COMPUTE);
        Physical {
            handle,
            properties,
            uuid: ids.device_uuid,
            memory,
            max_allocation_bytes: limits.max_memory_allocation_size,
            subgroup_size: subgroups.subgroup_size,
            family: families.iter().position(computes).map(|family| family as u32),
            has_timeline_semaphore: features12.timeline_semaphore == vk::TRUE,
            has_buffer_device_address: features12.buffer_device_address == vk::TRUE,
            has_memory_model: features12.vulkan_memory_model == vk::TRUE,
            has_float64,
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some((functions, messenger)) = self.messenger.take() {
            // SAFETY: it was made of this instance, which is alive.
            unsafe { functions.destroy_debug_utils_messenger(messenger, None) };
        }
        // SAFETY: devices keep their instance, so none is left.
        unsafe { self.instance.destroy_instance(None) };
    }
}

impl Physical {
    /// What the device lacks for the backend, all of it; `None` when it lacks nothing.
    pub(crate) fn lacks(&self) -> Option<String> {
        let version = self.properties.api_version;
        let has = [
            (version >= vk::API_VERSION_1_2, "Vulkan 1.2"),
            (self.family.is_some(), "a queue that computes"),
            (self.has_timeline_semaphore, "timeline semaphores"),
            (self.has_buffer_device_address, "buffer device addresses"),
            (self.has_float64, "shaderFloat64"),
        ];
        let missing: Vec<_> = has.into_iter().filter(|(has, _)| !has).map(|(_, what)| what).collect();
        (!missing.is_empty()).then(|| missing.join(", "))
    }
}

fn reports_to(messages: &Arc<Messages>) -> vk::DebugUtilsMessengerCreateInfoEXT<'static> {
    type Severity = vk::DebugUtilsMessageSeverityFlagsEXT;
    type Kind = vk::DebugUtilsMessageTypeFlagsEXT;
    vk::DebugUtilsMessengerCreateInfoEXT::default()
        .message_severity(Severity::ERROR | Severity::WARNING)
        .message_type(Kind::VALIDATION | Kind::PERFORMANCE)
        .pfn_user_callback(Some(report))
        .user_data(Arc::as_ptr(messages).cast_mut().cast())
}

/// Keeps what the validation layer says.
unsafe extern "system" fn report(
    _severity: vk::DebugUtilsMessageSeverityFlagsEXT,
    _kind: vk::DebugUtilsMessageTypeFlagsEXT,
    data: *const vk::DebugUtilsMessengerCallbackDataEXT<'_>,
    messages: *mut c_void,
) -> vk::Bool32 {
    // SAFETY: it is what the messenger was made with, kept as long as the instance.
    let messages = unsafe { &*messages.cast::<Messages>().cast_const() };
    // SAFETY: the layer passes a valid pointer.
    let data = unsafe { &*data };
    // SAFETY: the layer's message is a string.
    if let Some(text) = unsafe { data.message_as_c_str() } {
        messages.0.lock().insert(text.to_string_lossy().into_owned());
    }
    vk::FALSE
}
