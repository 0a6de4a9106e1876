//! `gpubridge devices`: what actors can live on.

use gpubridge::kernels::library;
use gpubridge::runtime::BackendDevices;
use gpubridge::{DeviceInfo, DeviceStatus};

use super::error::Error;
use super::process;
use super::report;

/// Prints one line per device.
pub fn run() -> Result<(), Error> {
    let mut text = lines(&gpubridge::backends(library()).devices());
    if let Some(loading) = process::loading() {
        text.push_str(&format!("cuda loads kernels {loading}\n"));
    }
    report::write(&text, false)
}

/// A line per device with what it is chosen by: its backend, its index and name, and its id at the end.
fn lines(backends: &[BackendDevices]) -> String {
    let mut text = String::new();
    for BackendDevices { backend, devices } in backends {
        match devices {
            Ok(devices) => devices.iter().for_each(|info| text.push_str(&line(backend, info))),
            Err(error) => text.push_str(&format!("{backend} · none · {error}\n")),
        }
    }
    text
}

fn line(backend: &str, info: &DeviceInfo) -> String {
    let status = match info.status {
        DeviceStatus::Available => "can be opened",
        DeviceStatus::Lost => "lost",
        _ => "cannot be opened",
    };
    let units = match (info.compute_units, info.clock_mhz) {
        (units, 0) => format!("{units} units"),
        (units, clock_mhz) => format!("{units} units at {clock_mhz} MHz"),
    };
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    format!(
        "{backend} · {} {} · {status} · {} {}, {units}, {:.1} of {:.1} GiB free · {}\n",
        info.index,
        info.name,
        info.architecture,
        info.kind,
        gib(info.available_memory_bytes),
        gib(info.total_memory_bytes),
        info.id
    )
}

#[cfg(test)]
mod tests {
    use gpubridge::{Backend, DeviceIndex, ErrorKind, NullBackend};

    use super::*;

    #[test]
    fn a_line_says_what_to_choose_and_whether_it_opens() {
        let null = NullBackend::default().devices().expect("works").remove(0);
        let device = |index, name: &str, status| DeviceInfo {
            id: format!("metal:{index}"),
            index: DeviceIndex(index),
            name: name.to_owned(),
            status,
            ..null.clone()
        };
        let devices = vec![
            DeviceInfo { clock_mhz: 1980, compute_units: 132, ..device(0, "M9", DeviceStatus::Available) },
            device(1, "M9", DeviceStatus::Unavailable),
            device(2, "M1", DeviceStatus::Lost),
        ];
        let missing = gpubridge::Error::new(ErrorKind::Unsupported, "coal.devices", "there is none");
        let backends = [
            BackendDevices { backend: "metal".to_owned(), devices: Ok(devices) },
            BackendDevices { backend: "coal".to_owned(), devices: Err(missing) },
        ];
        assert_eq!(
            lines(&backends),
            "metal · 0 M9 · can be opened · none null, 132 units at 1980 MHz, 1.0 of 1.0 GiB free · metal:0\n\
             metal · 1 M9 · cannot be opened · none null, 0 units, 1.0 of 1.0 GiB free · metal:1\n\
             metal · 2 M1 · lost · none null, 0 units, 1.0 of 1.0 GiB free · metal:2\n\
             coal · none · coal.devices: there is none\n"
        );
    }
}
