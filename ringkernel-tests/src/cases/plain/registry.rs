//! The choice of a backend, with doubles in place of devices.

use std::sync::{Arc, OnceLock, Weak};

use gpubridge_abstractions::{
    Backend, Device, DeviceIndex, DeviceInfo, DeviceKind, DeviceStatus, Error, ErrorKind, NullBackend,
};
use gpubridge_runtime::{BACKEND_VARIABLE, BackendRegistry};

use crate::Case;

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!("registry":
    the_order_is_cuda_vulkan_cpu_whatever_was_registered_first => "BackendRegistry::select/preference",
    a_processor_is_not_taken_for_a_gpu => "BackendRegistry::select/no-emulation",
    other_backends_come_last_in_the_order_of_their_registration => "BackendRegistry::select/others-last",
    what_was_passed_over_is_told => "BackendRegistry::select/reason",
    nothing_that_works_is_an_error_that_says_why => "BackendRegistry::select/none-works",
    a_choice_comes_before_the_environment_and_that_before_the_order => "BackendRegistry::select/choice-first",
    an_unknown_name_lists_the_known_ones => "BackendRegistry::select/unknown-name",
    a_chosen_backend_that_does_not_work_is_never_replaced => "BackendRegistry::select/never-replaced",
    the_device_index_is_honoured => "BackendRegistry::select/device-index",
    a_device_that_cannot_be_opened_is_passed_over_only_without_an_index => "BackendRegistry::select/unavailable",
    all_devices_are_listed_with_each_backends_error => "BackendRegistry::devices/all",
    a_name_is_registered_once_and_can_be_typed => "BackendRegistry::register/names",
    a_backend_may_ask_the_registry_that_asks_it => "BackendRegistry::devices/no-lock",
);

/// A backend that reports these devices, or fails to.
#[derive(Debug)]
struct Double {
    name: &'static str,
    devices: Result<Vec<DeviceInfo>, &'static str>,
}

impl Backend for Double {
    fn name(&self) -> &str {
        self.name
    }

    fn devices(&self) -> Result<Vec<DeviceInfo>, Error> {
        self.devices.clone().map_err(|why| Error::new(ErrorKind::Io, "double.devices", why))
    }

    fn open(&self, _index: DeviceIndex) -> Result<Arc<dyn Device>, Error> {
        panic!("selecting opens no device")
    }
}

fn device(name: &str, index: u32, status: DeviceStatus) -> DeviceInfo {
    let null = NullBackend::default().devices().expect("works").remove(0);
    let kind = if name == "cpu" { DeviceKind::Cpu } else { DeviceKind::Gpu };
    let id = format!("{name}:{index}");
    DeviceInfo { name: format!("{name} unit"), id, index: DeviceIndex(index), kind, status, ..null }
}

fn with_devices(name: &'static str, count: u32) -> Double {
    Double { name, devices: Ok((0..count).map(|index| device(name, index, DeviceStatus::Available)).collect()) }
}

fn failing(name: &'static str, why: &'static str) -> Double {
    Double { name, devices: Err(why) }
}

/// A registry of these backends in an environment where `variable` is the backend variable's value.
fn registry_in(variable: Option<&'static str>, doubles: impl IntoIterator<Item = Double>) -> BackendRegistry {
    let mut registry = BackendRegistry::new()
        .with_environment(move |name| variable.filter(|_| name == BACKEND_VARIABLE).map(str::to_owned));
    doubles.into_iter().for_each(|double| registry.register(Arc::new(double)).expect("works"));
    registry
}

fn registry(doubles: impl IntoIterator<Item = Double>) -> BackendRegistry {
    registry_in(None, doubles)
}

fn all_three() -> [Double; 3] {
    [with_devices("cpu", 1), with_devices("vulkan", 1), with_devices("cuda", 2)]
}

/// Vulkan on a processor, such as llvmpipe, with the CPU backend, alone, and chosen.
pub fn a_processor_is_not_taken_for_a_gpu() {
    let emulated = || {
        let info = DeviceInfo { kind: DeviceKind::Cpu, ..device("vulkan", 0, DeviceStatus::Available) };
        Double { name: "vulkan", devices: Ok(vec![info]) }
    };
    let selection = registry([emulated(), with_devices("cpu", 1)]).select(None, None).expect("works");
    assert_eq!(selection.backend.name(), "cpu");
    let why = "vulkan: vulkan unit is a processor, for which there is `cpu`";
    assert!(selection.reason.contains(why), "{}", selection.reason);
    let error = registry([emulated()]).select(None, None).expect_err("is refused");
    assert!(error.message().contains(why), "{error}");
    let selection = registry([emulated(), with_devices("cpu", 1)]).select(Some("vulkan"), None).expect("works");
    assert_eq!(selection.backend.name(), "vulkan");
}

/// Three backends in all orders of registration, with the best of them missing in turn.
pub fn the_order_is_cuda_vulkan_cpu_whatever_was_registered_first() {
    let names = ["cpu", "vulkan", "cuda"];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for (last, expected) in [(2, "cuda"), (1, "vulkan"), (0, "cpu")] {
            let doubles = order.into_iter().filter(|i| *i <= last).map(|i| with_devices(names[i], 1));
            let selection = registry(doubles).select(None, None).expect("works");
            assert_eq!(selection.backend.name(), expected, "registered as {order:?} up to {last}");
        }
    }
}

/// Two backends of other names; of the known ones only one that fails.
pub fn other_backends_come_last_in_the_order_of_their_registration() {
    let registry = registry([with_devices("zeta", 1), with_devices("alpha", 1), failing("cpu", "asleep")]);
    assert_eq!(registry.names(), ["cpu", "zeta", "alpha"]);
    assert_eq!(registry.select(None, None).expect("works").backend.name(), "zeta");
}

/// Four backends that fail in four ways before one that works.
pub fn what_was_passed_over_is_told() {
    let unavailable = Double { name: "opencl", devices: Ok(vec![device("opencl", 0, DeviceStatus::Lost)]) };
    let registry = registry([failing("cuda", "no driver"), with_devices("cpu", 0), unavailable, with_devices("x", 1)]);
    let selection = registry.select(None, None).expect("works");
    assert_eq!(
        selection.reason,
        "backend x, device 0 (x unit, GPU): the first backend in order that works; passed over: vulkan is not part \
         of this program; cuda: double.devices: no driver; cpu: it has no device; opencl: none of its devices can be \
         opened: 0 (opencl unit, Lost)"
    );
    assert_eq!(selection.info.id, "x:0");
}

/// Backends that fail, and no backend at all.
pub fn nothing_that_works_is_an_error_that_says_why() {
    let none =
        registry([failing("cuda", "no driver"), with_devices("cpu", 0)]).select(None, None).expect_err("is refused");
    assert_eq!(none.kind(), ErrorKind::NotFound);
    assert!(none.message().contains("no driver") && none.message().contains("cpu: it has no device"), "{none}");
    assert_eq!(registry([]).select(None, None).expect_err("is refused").kind(), ErrorKind::NotFound);
}

/// All ways to choose, and not to choose.
pub fn a_choice_comes_before_the_environment_and_that_before_the_order() {
    let registry = registry_in(Some("vulkan"), all_three());
    let by_caller = registry.select(Some("cpu"), None).expect("works");
    assert_eq!(by_caller.reason, "backend cpu, device 0 (cpu unit, CPU): the caller's choice");
    for no_choice in [None, Some("auto"), Some("")] {
        let by_environment = registry.select(no_choice, None).expect("works");
        assert_eq!(by_environment.reason, "backend vulkan, device 0 (vulkan unit, GPU): GPUBRIDGE_BACKEND=vulkan");
    }
    for no_choice in ["auto", "", " AUTO "] {
        let selection = registry_in(Some(no_choice), all_three()).select(None, None).expect("works");
        assert_eq!(selection.backend.name(), "cuda");
    }
    assert_eq!(registry.select(Some("CUDA"), None).expect("works").backend.name(), "cuda");
}

/// By the caller and by the environment.
pub fn an_unknown_name_lists_the_known_ones() {
    for error in [
        registry(all_three()).select(Some("metal"), None).expect_err("is refused"),
        registry_in(Some("metal"), all_three()).select(None, None).expect_err("is refused"),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.message().contains("`metal`"), "{error}");
        assert!(error.message().ends_with("there are: cuda, vulkan, cpu, auto"), "{error}");
    }
}

/// One that fails and one without a device, beside one that works.
pub fn a_chosen_backend_that_does_not_work_is_never_replaced() {
    let doubles = || [failing("cuda", "no driver"), with_devices("vulkan", 0), with_devices("cpu", 1)];
    for error in [
        registry(doubles()).select(Some("cuda"), None).expect_err("is refused"),
        registry_in(Some("cuda"), doubles()).select(None, None).expect_err("is refused"),
    ] {
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.message().contains("no driver"), "{error}");
        assert!(std::error::Error::source(&error).is_some());
    }
    let empty = registry(doubles()).select(Some("vulkan"), None).expect_err("is refused");
    assert_eq!(empty.kind(), ErrorKind::Unsupported);
    assert!(empty.message().contains("it has no device"), "{empty}");
}

/// An index that is there and one that is not, with a choice and without.
pub fn the_device_index_is_honoured() {
    let registry = registry(all_three());
    for choice in [None, Some("cuda")] {
        assert_eq!(registry.select(choice, Some(DeviceIndex(1))).expect("works").info.id, "cuda:1");
        let error = registry.select(choice, Some(DeviceIndex(2))).expect_err("is refused");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let listed = "there is no device 2; there are: 0 (cuda unit, Available), 1 (cuda unit, Available)";
        assert!(error.message().ends_with(listed), "{error}");
    }
}

/// Two devices, the first of them in use.
pub fn a_device_that_cannot_be_opened_is_passed_over_only_without_an_index() {
    let devices = || {
        let statuses = [DeviceStatus::Unavailable, DeviceStatus::Available];
        let both = (0..).zip(statuses).map(|(index, status)| device("cuda", index, status)).collect();
        Double { name: "cuda", devices: Ok(both) }
    };
    let registry = registry([devices()]);
    assert_eq!(registry.select(None, None).expect("works").info.id, "cuda:1");
    for choice in [None, Some("cuda")] {
        let error = registry.select(choice, Some(DeviceIndex(0))).expect_err("is refused");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains("device 0 (cuda unit, Unavailable) cannot be opened"), "{error}");
    }
}

/// Three backends, one of which fails.
pub fn all_devices_are_listed_with_each_backends_error() {
    let listed = registry([with_devices("cpu", 1), failing("vulkan", "no loader"), with_devices("cuda", 2)]).devices();
    let told: Vec<_> =
        listed.iter().map(|entry| (entry.backend.as_str(), entry.devices.as_ref().map(Vec::len))).collect();
    assert!(matches!(told[..], [("cuda", Ok(2)), ("vulkan", Err(_)), ("cpu", Ok(1))]), "{told:?}");
    assert!(listed[1].devices.as_ref().expect_err("is refused").message().contains("no loader"));
}

/// Names that are taken, empty, in capitals or with blanks.
pub fn a_name_is_registered_once_and_can_be_typed() {
    let mut registry = registry([with_devices("cpu", 1)]);
    for name in ["cpu", "auto", "", "CUDA", " cuda"] {
        let error = registry.register(Arc::new(with_devices(name, 1))).expect_err("is refused");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{name:?}");
    }
    assert_eq!(registry.names(), ["cpu"]);
}

/// A backend that asks its own registry while it is asked: a registry that held a lock here would wait for itself.
#[derive(Debug, Default)]
struct Inquisitive {
    registry: OnceLock<Weak<BackendRegistry>>,
}

impl Backend for Inquisitive {
    fn name(&self) -> &str {
        "inquisitive"
    }

    fn devices(&self) -> Result<Vec<DeviceInfo>, Error> {
        let registry = self.registry.get().and_then(Weak::upgrade).expect("the registry is there");
        registry.select(Some("cpu"), None).map(|selection| vec![selection.info])
    }

    fn open(&self, _index: DeviceIndex) -> Result<Arc<dyn Device>, Error> {
        panic!("selecting opens no device")
    }
}

/// A backend that selects from its own registry while it is asked.
pub fn a_backend_may_ask_the_registry_that_asks_it() {
    let inquisitive = Arc::new(Inquisitive::default());
    let mut registry = registry([with_devices("cpu", 1)]);
    registry.register(Arc::clone(&inquisitive) as Arc<dyn Backend>).expect("works");
    let registry = Arc::new(registry);
    inquisitive.registry.set(Arc::downgrade(&registry)).expect("works");
    assert_eq!(registry.select(Some("inquisitive"), None).expect("works").info.id, "cpu:0");
    assert!(registry.devices().iter().all(|entry| entry.devices.is_ok()));
}
