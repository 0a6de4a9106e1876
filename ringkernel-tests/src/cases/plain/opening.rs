//! One GPU through two backends, with doubles in place of both.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use gpubridge_abstractions::{Backend, Device, DeviceIndex, DeviceInfo, Error, ErrorKind, NullBackend};
use gpubridge_runtime::{BackendRegistry, Selection};

use crate::Case;

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!("opening":
    another_backend_does_not_open_a_device_that_is_open => "Selection::open/one-backend",
    two_devices_and_those_without_uuid_are_not_taken_for_one => "Selection::open/one-backend",
    of_two_backends_that_open_a_device_at_once_one_is_refused => "Selection::open/one-backend",
    a_device_is_opened_again_by_its_backend => "Selection::open/again",
    a_device_that_is_dropped_can_be_opened_by_another_backend => "Selection::open/again",
    a_device_that_did_not_open_is_not_in_use => "Selection::open/again",
    whoever_insists_opens_a_device_beside_another_backend => "Selection::open_shared/forced",
);

type Meanwhile = Box<dyn FnOnce() -> Result<(), Error> + Send>;

/// A backend with one device of some UUID, which does something while it opens.
struct Double {
    name: &'static str,
    uuid: Option<[u8; 16]>,
    meanwhile: Mutex<Option<Meanwhile>>,
}

impl std::fmt::Debug for Double {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Backend for Double {
    fn name(&self) -> &str {
        self.name
    }

    fn devices(&self) -> Result<Vec<DeviceInfo>, Error> {
        let devices = NullBackend::default().devices()?;
        Ok(devices.into_iter().map(|info| DeviceInfo { uuid: self.uuid, ..info }).collect())
    }

    fn open(&self, index: DeviceIndex) -> Result<Arc<dyn Device>, Error> {
        let meanwhile = self.meanwhile.lock().expect("no case panics here").take();
        meanwhile.map_or(Ok(()), |does| does())?;
        NullBackend::default().open(index)
    }
}

/// A UUID that nothing else of this process has.
fn fresh_uuid() -> Option<[u8; 16]> {
    static ISSUED: AtomicU64 = AtomicU64::new(0);
    // Relaxed: the numbers need only differ.
    let number = ISSUED.fetch_add(1, Ordering::Relaxed);
    Some((u128::from(number) | 0x6f70_656e << 64).to_be_bytes())
}

/// The device of a backend that does this while it opens, chosen from a registry of its own.
fn opening(name: &'static str, uuid: Option<[u8; 16]>, meanwhile: Option<Meanwhile>) -> Selection {
    let mut registry = BackendRegistry::new().with_environment(|_| None);
    registry.register(Arc::new(Double { name, uuid, meanwhile: Mutex::new(meanwhile) })).expect("works");
    registry.select(Some(name), None).expect("works")
}

fn chosen(name: &'static str, uuid: Option<[u8; 16]>) -> Selection {
    opening(name, uuid, None)
}

/// Two backends, each from a registry of its own.
pub fn another_backend_does_not_open_a_device_that_is_open() {
    let uuid = fresh_uuid();
    let _open = chosen("cuda", uuid).open().expect("works");
    let error = chosen("vulkan", uuid).open().expect_err("is refused");
    assert_eq!(error.kind(), ErrorKind::InvalidState);
    for part in ["`cuda`", "`vulkan`", "device 0 (null device)", "open_shared"] {
        assert!(error.message().contains(part), "{part} in {error}");
    }
}

/// Devices of two UUIDs, and two without.
pub fn two_devices_and_those_without_uuid_are_not_taken_for_one() {
    let open = [("cuda", fresh_uuid()), ("vulkan", fresh_uuid()), ("cuda", None), ("vulkan", None)];
    let open = open.map(|(name, uuid)| chosen(name, uuid).open().expect("works"));
    assert_eq!(open.len(), 4);
}

/// The second backend comes while the first is opening: as one of two threads would.
pub fn of_two_backends_that_open_a_device_at_once_one_is_refused() {
    let uuid = fresh_uuid();
    let (other, refused) = (chosen("vulkan", uuid), Arc::new(Mutex::new(None)));
    let kept = Arc::clone(&refused);
    let meanwhile = move || {
        *kept.lock().expect("no case panics here") = other.open().err();
        Ok(())
    };
    let open = opening("cuda", uuid, Some(Box::new(meanwhile))).open();
    assert!(open.is_ok(), "{open:?}");
    let refused = refused.lock().expect("no case panics here").take().expect("is refused");
    assert_eq!(refused.kind(), ErrorKind::InvalidState);
}

/// Twice at once, also where another backend shares it.
pub fn a_device_is_opened_again_by_its_backend() {
    let (uuid, both) = (fresh_uuid(), ["cuda", "vulkan"]);
    let _open = both.map(|name| chosen(name, uuid).open_shared().expect("works"));
    let _again = both.map(|name| chosen(name, uuid).open().expect("works"));
}

/// Two that the first backend has open, dropped one by one.
pub fn a_device_that_is_dropped_can_be_opened_by_another_backend() {
    let uuid = fresh_uuid();
    let [first, second] = [(); 2].map(|()| chosen("cuda", uuid).open().expect("works"));
    let other = chosen("vulkan", uuid);
    assert!(other.open().is_err());
    drop(first);
    assert!(other.open().is_err());
    drop(second);
    assert!(other.open().is_ok());
}

/// A backend whose device fails to open, and one that is refused.
pub fn a_device_that_did_not_open_is_not_in_use() {
    let uuid = fresh_uuid();
    let fails = || Err(Error::new(ErrorKind::Io, "double.open", "asleep"));
    let error = opening("cuda", uuid, Some(Box::new(fails))).open().expect_err("fails");
    assert_eq!(error.kind(), ErrorKind::Io);
    let open = chosen("vulkan", uuid).open().expect("works");
    assert!(chosen("cuda", uuid).open().is_err());
    drop(open);
    assert!(chosen("metal", uuid).open().is_ok());
}

/// Both backends hold it then: a third is refused until both have dropped theirs.
pub fn whoever_insists_opens_a_device_beside_another_backend() {
    let uuid = fresh_uuid();
    let first = chosen("cuda", uuid).open().expect("works");
    let forced = chosen("vulkan", uuid).open_shared().expect("works");
    drop(first);
    let error = chosen("metal", uuid).open().expect_err("is refused");
    assert!(error.message().contains("`vulkan`"), "{error}");
    drop(forced);
    assert!(chosen("metal", uuid).open().is_ok());
}
