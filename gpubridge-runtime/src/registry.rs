//! The backends of a program, and the choice among them.

use std::fmt;
use std::sync::Arc;

use gpubridge_abstractions::{Backend, Device, DeviceIndex, DeviceInfo, DeviceKind, DeviceStatus, Error, ErrorKind};

/// The environment variable that names a backend where the caller named none.
pub const BACKEND_VARIABLE: &str = "GPUBRIDGE_BACKEND";
/// The name that means no choice.
pub const AUTO: &str = "auto";

/// Backends in the order in which they are tried; all others follow in the order of their registration.
const PREFERENCE: [&str; 3] = ["cuda", "vulkan", CPU];
const CPU: &str = "cpu";
const SELECT: &str = "registry.select";

type Environment = dyn Fn(&str) -> Option<String> + Send + Sync;

/// The backends that a program was built with.
///
/// It holds no lock: backends are registered before it is shared, and may call back into it.
///
/// ```
/// use std::sync::Arc;
/// use gpubridge_abstractions::NullBackend;
/// use gpubridge_runtime::BackendRegistry;
///
/// let mut registry = BackendRegistry::new();
/// registry.register(Arc::new(NullBackend::default()))?;
/// let selection = registry.select(Some("null"), None)?;
/// assert_eq!(selection.info.id, "null:0");
/// println!("{}", selection.reason);
/// # Ok::<(), gpubridge_abstractions::Error>(())
/// ```
pub struct BackendRegistry {
    backends: Vec<Arc<dyn Backend>>,
    environment: Box<Environment>,
}

/// What [`BackendRegistry::select`] chose.
#[derive(Clone, Debug)]
pub struct Selection {
    /// The backend to open the device with.
    pub backend: Arc<dyn Backend>,
    /// The device.
    pub info: DeviceInfo,
    /// What was chosen and why, and what was passed over and why, in a line.
    pub reason: String,
}

impl Selection {
    /// Opens the device that was selected.
    ///
    /// # Errors
    /// Those of [`Backend::open`].
    pub fn open(&self) -> Result<Arc<dyn Device>, Error> {
        self.backend.open(self.info.index)
    }
}

/// The devices of one backend, or why there are none to be had.
#[derive(Debug)]
pub struct BackendDevices {
    /// The backend's name.
    pub backend: String,
    /// Its devices.
    pub devices: Result<Vec<DeviceInfo>, Error>,
}

impl Default for BackendRegistry {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for BackendRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendRegistry").field("backends", &self.backends).finish_non_exhaustive()
    }
}

impl BackendRegistry {
    /// A registry without backends that reads the process's environment.
    pub fn new() -> Self {
        // A value that is not UTF-8 names no backend; it must not be taken for none.
        let environment = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Self { backends: Vec::new(), environment: Box::new(environment) }
    }

    /// The same with another source of environment variables.
    #[must_use]
    pub fn with_environment(mut self, environment: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        self.environment = Box::new(environment);
        self
    }

    /// Adds a backend.
    ///
    /// # Behavior
    /// - **names**: A name is registered once, and can be typed.
    ///
    /// # Errors
    /// `InvalidArgument` when its name is taken, empty, `auto` or not in lower case.
    pub fn register(&mut self, backend: Arc<dyn Backend>) -> Result<(), Error> {
        let name = backend.name();
        let refuse = |why: String| Err(Error::new(ErrorKind::InvalidArgument, "registry.register", why));
        if name.is_empty() || name == AUTO || name != name.trim().to_ascii_lowercase() {
            return refuse(format!("`{name}` cannot name a backend: use a lower-case word other than `{AUTO}`"));
        }
        if self.find(name).is_some() {
            return refuse(format!("a backend `{name}` is registered already"));
        }
        self.backends.push(backend);
        Ok(())
    }

    /// The names of the registered backends in the order in which they are tried.
    pub fn names(&self) -> Vec<&str> {
        let others = self.backends.iter().map(|backend| backend.name()).filter(|name| !PREFERENCE.contains(name));
        PREFERENCE.into_iter().filter(|name| self.find(name).is_some()).chain(others).collect()
    }

    /// The backend of this name, whether it works here or not.
    ///
    /// # Errors
    /// `NotFound` for an unknown name, with those there are.
    pub fn backend(&self, name: &str) -> Result<&Arc<dyn Backend>, Error> {
        self.find(name).ok_or_else(|| {
            let why = format!("there is no backend `{name}`; there are: {}", self.names().join(", "));
            Error::new(ErrorKind::NotFound, "registry.backend", why)
        })
    }

    /// The devices of all backends in the order in which they are tried. Asks every backend.
    ///
    /// # Behavior
    /// - **all**: A backend that fails is listed with its error.
    /// - **no-lock**: A backend may ask the registry that asks it.
    pub fn devices(&self) -> Vec<BackendDevices> {
        let ask = |backend: &Arc<dyn Backend>| BackendDevices {
            backend: backend.name().to_owned(),
            devices: backend.devices(),
        };
        self.names().into_iter().filter_map(|name| self.find(name)).map(ask).collect()
    }

    /// Chooses a backend and one of its devices.
    ///
    /// # Behavior
    /// - **choice-first**: `choice` decides; without one (or with `auto`) the environment variable [`BACKEND_VARIABLE`]
    ///   does.
    /// - **never-replaced**: A chosen backend is used or the call fails with its error: nothing takes its place.
    /// - **unknown-name**: A choice that is no backend is refused with those that are.
    /// - **preference**: Without a choice the order is CUDA, Vulkan, CPU, whatever the order of registration...
    /// - **no-emulation**: ...but for CUDA and Vulkan on a device that is a processor itself (Mesa's llvmpipe): it is used when
    ///   it is chosen, and otherwise passed over for the CPU backend...
    /// - **others-last**: ...then the others in the order of their registration.
    /// - **reason**: Backends that fail or have no device that can be opened are passed over, and the reason says so.
    /// - **none-works**: When none is left the error says why each was passed over.
    /// - **device-index**: `device` is the index within the backend that is chosen. One that it does not have is an error,
    ///   not a reason to go on to the next backend.
    /// - **unavailable**: Without an index the first device that can be opened is taken; with one, that or none.
    ///
    /// # Errors
    /// `NotFound` for an unknown backend or device, naming those there are, and when no backend works; the backend's
    /// own kind when a chosen one fails; `Unsupported` when a chosen one has no device, or none that can be opened.
    pub fn select(&self, choice: Option<&str>, device: Option<DeviceIndex>) -> Result<Selection, Error> {
        let wish = |text: &str| Some(text.trim().to_ascii_lowercase()).filter(|name| !name.is_empty() && name != AUTO);
        if let Some(name) = choice.and_then(wish) {
            return self.select_chosen(&name, "the caller's choice", device);
        }
        if let Some(name) = (self.environment)(BACKEND_VARIABLE).as_deref().and_then(wish) {
            return self.select_chosen(&name, &format!("{BACKEND_VARIABLE}={name}"), device);
        }
        self.select_preferred(device)
    }

    fn find(&self, name: &str) -> Option<&Arc<dyn Backend>> {
        self.backends.iter().find(|backend| backend.name() == name)
    }

    fn select_chosen(&self, name: &str, by: &str, device: Option<DeviceIndex>) -> Result<Selection, Error> {
        let Some(backend) = self.find(name) else {
            let why = format!("there is no backend `{name}` ({by}); there are: {}, {AUTO}", self.names().join(", "));
            return Err(Error::new(ErrorKind::NotFound, SELECT, why));
        };
        let devices = backend.devices().map_err(Refusal::from);
        let info = devices.and_then(|devices| pick(&devices, device)).map_err(|refusal| {
            let context = format!("backend `{name}` ({by}) cannot be used");
            refusal.into_error(&context)
        })?;
        let reason = format!("{}: {by}", describe(name, &info));
        Ok(Selection { backend: Arc::clone(backend), info, reason })
    }

    fn select_preferred(&self, device: Option<DeviceIndex>) -> Result<Selection, Error> {
        let missing = PREFERENCE.into_iter().filter(|name| self.find(name).is_none());
        let mut passed_over: Vec<_> = missing.map(|name| format!("{name} is not part of this program")).collect();
        for name in self.names() {
            let Some(backend) = self.find(name) else { continue };
            // Whether this is the backend is settled without the index; whether it has that device comes after.
            let tried = backend.devices().map_err(Refusal::from);
            let devices = match tried.and_then(|devices| pick(&devices, None).map(|_| devices)) {
                Ok(devices) => devices,
                Err(refusal) => {
                    passed_over.push(format!("{name}: {}", refusal.why));
                    continue;
                }
            };
            let info = pick(&devices, device)
                .map_err(|refusal| refusal.into_error(&format!("backend `{name}` is the first that works")))?;
            if info.kind == DeviceKind::Cpu && PREFERENCE.contains(&name) && name != CPU {
                passed_over.push(format!("{name}: {} is a processor, for which there is `{CPU}`", info.name));
                continue;
            }
            let mut reason = format!("{}: the first backend in order that works", describe(name, &info));
            if !passed_over.is_empty() {
                reason = format!("{reason}; passed over: {}", passed_over.join("; "));
            }
            return Ok(Selection { backend: Arc::clone(backend), info, reason });
        }
        let why = format!("no backend works here: {}", passed_over.join("; "));
        Err(Error::new(ErrorKind::NotFound, SELECT, why))
    }
}

/// Why a backend is not used.
struct Refusal {
    kind: ErrorKind,
    why: String,
    source: Option<Error>,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { kind: error.kind(), why: error.to_string(), source: Some(error) }
    }
}

impl Refusal {
    fn of<T>(kind: ErrorKind, why: String) -> Result<T, Self> {
        Err(Self { kind, why, source: None })
    }

    fn into_error(self, context: &str) -> Error {
        let error = Error::new(self.kind, SELECT, format!("{context}: {}", self.why));
        match self.source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }
}

/// The device with this index, or else the first that can be opened.
fn pick(devices: &[DeviceInfo], index: Option<DeviceIndex>) -> Result<DeviceInfo, Refusal> {
    let text = |info: &DeviceInfo| format!("{} ({}, {:?})", info.index, info.name, info.status);
    let listed = devices.iter().map(text).collect::<Vec<_>>().join(", ");
    let can_open = |info: &&DeviceInfo| info.status == DeviceStatus::Available;
    if devices.is_empty() {
        return Refusal::of(ErrorKind::Unsupported, "it has no device".to_owned());
    }
    let Some(index) = index else {
        return match devices.iter().find(can_open) {
            Some(info) => Ok(info.clone()),
            None => Refusal::of(ErrorKind::Unsupported, format!("none of its devices can be opened: {listed}")),
        };
    };
    match devices.iter().find(|info| info.index == index) {
        Some(info) if can_open(&info) => Ok(info.clone()),
        Some(info) => Refusal::of(ErrorKind::Unsupported, format!("device {} cannot be opened", text(info))),
        None => Refusal::of(ErrorKind::NotFound, format!("there is no device {index}; there are: {listed}")),
    }
}

fn describe(name: &str, info: &DeviceInfo) -> String {
    format!("backend {name}, device {} ({}, {})", info.index, info.name, info.kind)
}
