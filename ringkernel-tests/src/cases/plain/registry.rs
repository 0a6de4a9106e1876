//! The choice of a backend, with doubles in place of devices.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};

use gpubridge_abstractions::{
    Backend, Device, DeviceIndex, DeviceInfo, DeviceKind, DeviceStatus, Error, ErrorKind, NullBackend,
};
use gpubridge_runtime::{BACKEND_VARIABLE, BackendRegistry, DEVICE_VARIABLE};

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
    a_device_comes_of_the_caller_before_the_environment => "BackendRegistry::select/device-first",
    a_number_is_the_index_of_a_device => "BackendRegistry::select/device-index",
    a_device_has_a_name_and_an_id => "BackendRegistry::select/device-name",
    a_device_is_looked_for_in_one_backend => "BackendRegistry::select/device-or-none",
    a_device_that_cannot_be_opened_is_passed_over_only_unless_chosen => "BackendRegistry::select/unavailable",
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

/// A registry of these backends in an environment of these variables.
fn registry_with(
    variables: &[(&'static str, &'static str)],
    doubles: impl IntoIterator<Item = Double>,
) -> BackendRegistry {
    let variables = BTreeMap::from_iter(variables.iter().copied());
    let mut registry =
        BackendRegistry::new().with_environment(move |name| variables.get(name).map(|value| (*value).to_owned()));
    doubles.into_iter().for_each(|double| registry.register(Arc::new(double)).expect("works"));
    registry
}

/// The same where the backend variable has this value.
fn registry_in(backend: &'static str, doubles: impl IntoIterator<Item = Double>) -> BackendRegistry {
    registry_with(&[(BACKEND_VARIABLE, backend)], doubles)
}

fn registry(doubles: impl IntoIterator<Item = Double>) -> BackendRegistry {
    registry_with(&[], doubles)
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
    let registry = registry_in("vulkan", all_three());
    let by_caller = registry.select(Some("cpu"), None).expect("works");
    assert_eq!(by_caller.reason, "backend cpu, device 0 (cpu unit, CPU): the caller's choice");
    for no_choice in [None, Some("auto"), Some("")] {
        let by_environment = registry.select(no_choice, None).expect("works");
        assert_eq!(by_environment.reason, "backend vulkan, device 0 (vulkan unit, GPU): GPUBRIDGE_BACKEND=vulkan");
    }
    for no_choice in ["auto", "", " AUTO "] {
        let selection = registry_in(no_choice, all_three()).select(None, None).expect("works");
        assert_eq!(selection.backend.name(), "cuda");
    }
    assert_eq!(registry.select(Some("CUDA"), None).expect("works").backend.name(), "cuda");
}

/// By the caller and by the environment.
pub fn an_unknown_name_lists_the_known_ones() {
    for error in [
        registry(all_three()).select(Some("metal"), None).expect_err("is refused"),
        registry_in("metal", all_three()).select(None, None).expect_err("is refused"),
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
        registry_in("cuda", doubles()).select(None, None).expect_err("is refused"),
    ] {
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.message().contains("no driver"), "{error}");
        assert!(std::error::Error::source(&error).is_some());
    }
    let empty = registry(doubles()).select(Some("vulkan"), None).expect_err("is refused");
    assert_eq!(empty.kind(), ErrorKind::Unsupported);
    assert!(empty.message().contains("it has no device"), "{empty}");
}

/// A backend with devices of these names.
fn with_names(name: &'static str, names: &[&str]) -> Double {
    let named = |(index, own): (u32, &&str)| DeviceInfo {
        name: (*own).to_owned(),
        ..device(name, index, DeviceStatus::Available)
    };
    Double { name, devices: Ok((0..).zip(names).map(named).collect()) }
}

/// By the caller, by the environment, by both, and by neither.
pub fn a_device_comes_of_the_caller_before_the_environment() {
    let registry = registry_with(&[(DEVICE_VARIABLE, "1")], [with_devices("cuda", 3), with_devices("cpu", 1)]);
    let by_caller = registry.select(None, Some("2")).expect("works");
    assert!(by_caller.reason.starts_with("backend cuda, device 2 (cuda unit, GPU, the caller's choice): "));
    for no_choice in [None, Some("auto"), Some(" ")] {
        let by_environment = registry.select(Some("cuda"), no_choice).expect("works");
        let reason = "backend cuda, device 1 (cuda unit, GPU, GPUBRIDGE_DEVICE=1): the caller's choice";
        assert_eq!(by_environment.reason, reason);
    }
    // Not dropped in silence where the backend was chosen otherwise.
    let error = registry.select(Some("cpu"), None).expect_err("is refused");
    assert!(error.message().contains("there is no device `1` (GPUBRIDGE_DEVICE=1)"), "{error}");
    let neither = registry_with(&[(DEVICE_VARIABLE, "auto")], [with_devices("cuda", 3)]);
    assert_eq!(neither.select(None, None).expect("works").info.id, "cuda:0");
}

/// An index that is there and one that is not, with a choice and without; one that is a part of a name.
pub fn a_number_is_the_index_of_a_device() {
    let registry = registry([with_names("cuda", &["Model 20", "Model 21"]), with_devices("cpu", 1)]);
    for choice in [None, Some("cuda")] {
        assert_eq!(registry.select(choice, Some("1")).expect("works").info.id, "cuda:1");
        for number in ["2", "20"] {
            let error = registry.select(choice, Some(number)).expect_err("is refused");
            assert_eq!(error.kind(), ErrorKind::NotFound);
            let listed = "(the caller's choice); there are: 0 (Model 20, Available), 1 (Model 21, Available)";
            assert!(error.message().ends_with(&format!("there is no device `{number}` {listed}")), "{error}");
        }
    }
}

/// Whole names, parts of names and ids, in capitals and not; names of two devices and of none.
pub fn a_device_has_a_name_and_an_id() {
    let names = ["Alpha X100", "Alpha X100 Pro", "Beta B7", "Gamma", "Gamma"];
    let registry = registry([with_names("vulkan", &names)]);
    let of = |text| registry.select(Some("vulkan"), Some(text));
    for (text, index) in [
        ("alpha x100", 0),
        (" ALPHA X100 PRO ", 1),
        ("pro", 1),
        ("BETA", 2),
        ("b7", 2),
        ("Vulkan:3", 3),
        ("vulkan:4", 4),
    ] {
        assert_eq!(of(text).expect(text).info.index, DeviceIndex(index), "{text}");
    }
    for (text, listed) in [
        ("x100", "0 (Alpha X100, Available), 1 (Alpha X100 Pro, Available)"),
        ("gamma", "3 (Gamma, Available), 4 (Gamma, Available)"),
    ] {
        let error = of(text).expect_err("is refused");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().contains(&format!("`{text}`")) && error.message().contains(listed), "{error}");
        assert!(!error.message().contains("Beta"), "{error}");
    }
    // A part of an id is no name.
    for text in ["delta", "vulkan:"] {
        let error = of(text).expect_err("is refused");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.message().contains(&format!("`{text}`")), "{error}");
        assert!(names.iter().all(|name| error.message().contains(name)), "{error}");
    }
}

/// A device of a backend that comes later; a processor beside a graphics processor, and alone.
pub fn a_device_is_looked_for_in_one_backend() {
    let processor = |index| DeviceInfo {
        name: "pipe".to_owned(),
        kind: DeviceKind::Cpu,
        ..device("vulkan", index, DeviceStatus::Available)
    };
    let refused = |registry: BackendRegistry, text| {
        let error = registry.select(None, Some(text)).expect_err("is refused");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        error.message().to_owned()
    };
    let both = [with_devices("cuda", 1), with_names("vulkan", &["Arc"])];
    let message = refused(registry(both), "arc");
    assert!(message.contains("backend `cuda` is the first that works, as none was chosen"), "{message}");
    let beside =
        || Double { name: "vulkan", devices: Ok(vec![device("vulkan", 0, DeviceStatus::Available), processor(1)]) };
    let chosen = registry([beside(), with_devices("cpu", 1)]).select(None, Some("pipe")).expect("works");
    assert_eq!(chosen.info.id, "vulkan:1");
    let alone = Double { name: "vulkan", devices: Ok(vec![processor(0)]) };
    let message = refused(registry([alone, with_devices("cpu", 1)]), "pipe");
    assert!(message.contains("backend `cpu` is the first that works, as none was chosen"), "{message}");
    assert!(message.contains("vulkan: pipe is a processor"), "{message}");
}

/// Two devices, the first of them in use.
pub fn a_device_that_cannot_be_opened_is_passed_over_only_unless_chosen() {
    let devices = || {
        let statuses = [DeviceStatus::Unavailable, DeviceStatus::Available];
        let both = (0..).zip(statuses).map(|(index, status)| device("cuda", index, status)).collect();
        Double { name: "cuda", devices: Ok(both) }
    };
    let registry = registry([devices()]);
    assert_eq!(registry.select(None, None).expect("works").info.id, "cuda:1");
    for (choice, device) in [(None, "0"), (Some("cuda"), "0"), (Some("cuda"), "cuda:0")] {
        let error = registry.select(choice, Some(device)).expect_err("is refused");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let told = "device 0 (cuda unit, Unavailable) (the caller's choice) cannot be opened";
        assert!(error.message().contains(told), "{error}");
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
