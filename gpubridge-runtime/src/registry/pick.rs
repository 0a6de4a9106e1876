//! The choice among the devices of one backend.

use gpubridge_abstractions::{DeviceInfo, DeviceStatus, Error, ErrorKind};

use super::SELECT;

/// What was chosen, in lower case, and by whom.
pub(super) struct Wanted {
    pub(super) text: String,
    pub(super) by: String,
}

/// Why a backend is not used.
pub(super) struct Refusal {
    kind: ErrorKind,
    pub(super) why: String,
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

    pub(super) fn into_error(self, context: &str) -> Error {
        let error = Error::new(self.kind, SELECT, format!("{context}: {}", self.why));
        match self.source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }
}

/// The device that is wanted, or else the first that can be opened.
pub(super) fn pick(devices: &[DeviceInfo], wanted: Option<&Wanted>) -> Result<DeviceInfo, Refusal> {
    let can_open = |info: &DeviceInfo| info.status == DeviceStatus::Available;
    if devices.is_empty() {
        return Refusal::of(ErrorKind::Unsupported, "it has no device".to_owned());
    }
    let Some(Wanted { text, by }) = wanted else {
        return match devices.iter().find(|info| can_open(info)) {
            Some(info) => Ok(info.clone()),
            None => {
                Refusal::of(ErrorKind::Unsupported, format!("none of its devices can be opened: {}", list(devices)))
            }
        };
    };
    match &meant(devices, text)[..] {
        [info] if can_open(info) => Ok((*info).clone()),
        [info] => Refusal::of(ErrorKind::Unsupported, format!("device {} ({by}) cannot be opened", list([*info]))),
        [] => {
            let why = format!("there is no device `{text}` ({by}); there are: {}", list(devices));
            Refusal::of(ErrorKind::NotFound, why)
        }
        several => {
            let listed = list(several.iter().copied());
            let why = format!("device `{text}` ({by}) may be any of: {listed}; choose one by its index");
            Refusal::of(ErrorKind::InvalidArgument, why)
        }
    }
}

/// The devices that a text names: by index, id or name, or by a part of the name. A number is never a part.
fn meant<'a>(devices: &'a [DeviceInfo], text: &str) -> Vec<&'a DeviceInfo> {
    let is = |info: &&DeviceInfo| {
        [info.index.to_string(), info.id.to_lowercase(), info.name.to_lowercase()].iter().any(|own| own == text)
    };
    let whole: Vec<_> = devices.iter().filter(is).collect();
    if !whole.is_empty() || text.bytes().all(|byte| byte.is_ascii_digit()) {
        return whole;
    }
    devices.iter().filter(|info| info.name.to_lowercase().contains(text)).collect()
}

fn list<'a>(devices: impl IntoIterator<Item = &'a DeviceInfo>) -> String {
    let text = |info: &DeviceInfo| format!("{} ({}, {:?})", info.index, info.name, info.status);
    devices.into_iter().map(text).collect::<Vec<_>>().join(", ")
}
