//! The physical devices that this process has opened through a registry, and by which backends.

use std::fmt;
use std::sync::{Arc, Weak};

use gpubridge_abstractions::{Backend, Device, DeviceInfo, Error, ErrorKind};
use parking_lot::Mutex;

// Of the process, not of a registry: the device is the same whichever of them it was chosen from.
static USES: Mutex<Vec<Use>> = Mutex::new(Vec::new());

/// That a backend has a physical device open, or is opening it.
struct Use {
    uuid: [u8; 16],
    backend: String,
    /// The open device, or what stands for it while it is being opened: as long as it lives, so does the use.
    holder: Weak<Holder>,
}

type Holder = dyn fmt::Debug + Send + Sync;

impl Use {
    fn new(uuid: [u8; 16], backend: &dyn Backend, holder: &Arc<Holder>) -> Self {
        Self { uuid, backend: backend.name().to_owned(), holder: Arc::downgrade(holder) }
    }
}

/// Opens a device, unless another backend has it open and it is not to be shared.
pub(super) fn open(backend: &dyn Backend, info: &DeviceInfo, is_shared: bool) -> Result<Arc<dyn Device>, Error> {
    let Some(uuid) = info.uuid else { return backend.open(info.index) };
    // No lock is held while the device opens, which may take long. Of two backends that open it at once one is refused.
    let opening: Arc<Holder> = Arc::new("opening");
    enter(Use::new(uuid, backend, &opening), is_shared).map_err(|other| refuse(backend, info, &other))?;
    let device = backend.open(info.index)?;
    let open: Arc<Holder> = Arc::<dyn Device>::clone(&device);
    USES.lock().push(Use::new(uuid, backend, &open));
    Ok(device)
}

/// Notes a use. Where it would be the first of its backend and is not shared, that of another backend refuses it, by its name.
fn enter(new: Use, is_shared: bool) -> Result<(), String> {
    let mut uses = USES.lock();
    uses.retain(|each| each.holder.strong_count() > 0);
    let (own, others): (Vec<_>, Vec<_>) =
        uses.iter().filter(|each| each.uuid == new.uuid).partition(|each| each.backend == new.backend);
    if let (false, [], [other, ..]) = (is_shared, &own[..], &others[..]) {
        return Err(other.backend.clone());
    }
    uses.push(new);
    Ok(())
}

fn refuse(backend: &dyn Backend, info: &DeviceInfo, other: &str) -> Error {
    let name = backend.name();
    let why = format!(
        "device {} ({}) of backend `{name}` is open by backend `{other}` in this process (same UUID): a GPU runs the \
         work of two APIs by turns, and each waits for the other's; use one backend for it, drop the device that is \
         open, or force it by Selection::open_shared",
        info.index, info.name
    );
    Error::new(ErrorKind::InvalidState, "selection.open", why)
}
