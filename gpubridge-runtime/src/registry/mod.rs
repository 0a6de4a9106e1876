//! The backends of a program, and the choice among them and their devices.

mod in_use;
mod pick;

use std::fmt;
use std::sync::Arc;

use gpubridge_abstractions::{Backend, Device, DeviceInfo, DeviceKind, Error, ErrorKind};

use self::pick::{Refusal, Wanted, pick};

/// The environment variable that names a backend where the caller named none.
pub const BACKEND_VARIABLE: &str = "GPUBRIDGE_BACKEND";
/// The environment variable that names a device of the backend where the caller named none.
pub const DEVICE_VARIABLE: &str = "GPUBRIDGE_DEVICE";
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
    /// Opens the device that was selected, unless another backend has it open.
    ///
    /// A GPU runs the work of two APIs by turns: a kernel that never ends, as CUDA's ring is, would hold up the other's
    /// batches, and be interrupted for them. So the process keeps, by its UUID ([`DeviceInfo::uuid`]), by which backend each
    /// device was opened through a registry, as long as the `Arc` that was given for it lives. What was opened by
    /// [`Backend::open`] itself, or by another process, is not seen.
    ///
    /// # Behavior
    /// - **one-backend**: A device that another backend has open, through whichever registry, is refused; the message names
    ///   both.
    /// - **again**: A backend may open a device again that it has open. Once one has dropped it, or failed to open it, any may.
    ///
    /// # Errors
    /// `InvalidState` when another backend has the device open; those of [`Backend::open`].
    pub fn open(&self) -> Result<Arc<dyn Device>, Error> {
        in_use::open(&*self.backend, &self.info, false)
    }

    /// Opens the device that was selected, also where another backend has it open: both then wait for each other's work.
    ///
    /// # Behavior
    /// - **forced**: That another backend has the device open does not refuse it; it counts as open by both.
    ///
    /// # Errors
    /// Those of [`Backend::open`].
    pub fn open_shared(&self) -> Result<Arc<dyn Device>, Error> {
        in_use::open(&*self.backend, &self.info, true)
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
    /// - **device-first**: `device` decides which of the backend's devices; without one (or with `auto`) the environment
    ///   variable [`DEVICE_VARIABLE`] does.
    /// - **device-index**: A number is the index within the backend.
    /// - **device-name**: All else is the device's id, its name, or a part of the name, in capitals or not. Its whole name
    ///   comes before a part of another's; what several devices have is refused with those.
    /// - **device-or-none**: Which backend it is, is settled without the device: one that it does not have is an error with
    ///   those it has, not a reason to go on to the next backend.
    /// - **unavailable**: Without a device the first that can be opened is taken; with one, that or none.
    ///
    /// # Errors
    /// `NotFound` for an unknown backend or device, naming those there are, and when no backend works; `InvalidArgument` for
    /// a device's name that several have; the backend's own kind when a chosen one fails; `Unsupported` when a chosen one
    /// has no device, or none that can be opened.
    pub fn select(&self, choice: Option<&str>, device: Option<&str>) -> Result<Selection, Error> {
        let device = self.wanted(device, DEVICE_VARIABLE);
        match self.wanted(choice, BACKEND_VARIABLE) {
            Some(backend) => self.select_chosen(&backend, device.as_ref()),
            None => self.select_preferred(device.as_ref()),
        }
    }

    fn find(&self, name: &str) -> Option<&Arc<dyn Backend>> {
        self.backends.iter().find(|backend| backend.name() == name)
    }

    /// The caller's choice, or else that of an environment variable.
    fn wanted(&self, choice: Option<&str>, variable: &str) -> Option<Wanted> {
        let wish = |text: &str| Some(text.trim().to_lowercase()).filter(|text| !text.is_empty() && text != AUTO);
        if let Some(text) = choice.and_then(wish) {
            return Some(Wanted { text, by: "the caller's choice".to_owned() });
        }
        let text = (self.environment)(variable).as_deref().and_then(wish)?;
        let by = format!("{variable}={text}");
        Some(Wanted { text, by })
    }

    fn select_chosen(&self, Wanted { text: name, by }: &Wanted, device: Option<&Wanted>) -> Result<Selection, Error> {
        let Some(backend) = self.find(name) else {
            let why = format!("there is no backend `{name}` ({by}); there are: {}, {AUTO}", self.names().join(", "));
            return Err(Error::new(ErrorKind::NotFound, SELECT, why));
        };
        let devices = backend.devices().map_err(Refusal::from);
        let info = devices.and_then(|devices| pick(&devices, device)).map_err(|refusal| {
            let context = format!("backend `{name}` ({by}) cannot be used");
            refusal.into_error(&context)
        })?;
        let reason = format!("{}: {by}", describe(name, &info, device));
        Ok(Selection { backend: Arc::clone(backend), info, reason })
    }

    fn select_preferred(&self, device: Option<&Wanted>) -> Result<Selection, Error> {
        let missing = PREFERENCE.into_iter().filter(|name| self.find(name).is_none());
        let mut passed_over: Vec<_> = missing.map(|name| format!("{name} is not part of this program")).collect();
        for name in self.names() {
            let Some(backend) = self.find(name) else { continue };
            // Whether this is the backend is settled without the device that is wanted; whether it has that comes after.
            let tried = backend.devices().map_err(Refusal::from);
            let (devices, first) = match tried.and_then(|devices| pick(&devices, None).map(|first| (devices, first))) {
                Ok(found) => found,
                Err(refusal) => {
                    passed_over.push(format!("{name}: {}", refusal.why));
                    continue;
                }
            };
            if first.kind == DeviceKind::Cpu && PREFERENCE.contains(&name) && name != CPU {
                passed_over.push(format!("{name}: {} is a processor, for which there is `{CPU}`", first.name));
                continue;
            }
            let passed_over = match passed_over.join("; ") {
                none if none.is_empty() => none,
                some => format!("; passed over: {some}"),
            };
            let info = pick(&devices, device).map_err(|refusal| {
                let context = format!("backend `{name}` is the first that works, as none was chosen{passed_over}");
                refusal.into_error(&context)
            })?;
            let what = describe(name, &info, device);
            let reason = format!("{what}: the first backend in order that works{passed_over}");
            return Ok(Selection { backend: Arc::clone(backend), info, reason });
        }
        let why = format!("no backend works here: {}", passed_over.join("; "));
        Err(Error::new(ErrorKind::NotFound, SELECT, why))
    }
}

/// What was chosen, and who wanted that device if anybody did.
fn describe(backend: &str, info: &DeviceInfo, device: Option<&Wanted>) -> String {
    let by = device.map_or_else(String::new, |wanted| format!(", {}", wanted.by));
    format!("backend {backend}, device {} ({}, {}{by})", info.index, info.name, info.kind)
}
