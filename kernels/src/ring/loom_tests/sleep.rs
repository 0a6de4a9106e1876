//! A device that sleeps between commands is woken for every one.

use std::sync::Arc;

use super::*;

/// Wakes a parked device thread.
#[derive(Debug)]
struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(&self) {
        self.0.unpark();
    }
}

/// The device thread parks whenever it has found nothing, announced that, and found nothing again. The host submits
/// `commands` commands, ringing the doorbell after each. With the fault the device does not
/// look again after the announcement.
fn sleep(fault: Fault, commands: u64) {
    let memory = memory(fault);
    let mut device = DeviceLane::new(memory.clone(), layout());
    let server = thread::spawn(move || {
        for number in 0..commands {
            let polled = poll_or_sleep(&mut device, fault);
            device.publish_consumed();
            serve(&device, number, polled);
        }
    });
    let wake = Arc::new(Unpark(server.thread().clone()));
    let host = HostLane::new(memory, layout(), Some(wake));
    let completions = host.completions();
    let mut host = (host.into_submitter(), completions);
    let submit_and_ring = |number| {
        let ticket = submit(&mut host, number);
        host.0.doorbell();
        ticket
    };
    let tickets: Vec<Ticket> = (0..commands).map(submit_and_ring).collect();
    // Not a loop over the answers: a device that sleeps for good shall be seen as that.
    server.join().unwrap();
    for (mut ticket, number) in tickets.into_iter().zip(0..) {
        assert!(try_take(&host.1, &mut ticket, number));
    }
}

fn poll_or_sleep(device: &mut Device, fault: Fault) -> (Command, Reply) {
    loop {
        if let Some(polled) = device.poll_command() {
            return polled;
        }
        device.announce_sleep();
        if fault != Fault::NoSecondLook
            && let Some(polled) = device.poll_command()
        {
            device.retract_sleep();
            return polled;
        }
        thread::park();
    }
}

/// No command is slept through, the first or one after a sleep.
#[test]
fn every_command_wakes_the_device() {
    explore(3, || sleep(Fault::None, 1));
    explore(2, || sleep(Fault::None, 2));
}

/// Fault (d): the doorbell rings between the last look and the announcement, and the device sleeps for good.
#[test]
#[should_panic(expected = "deadlock")]
fn fault_no_second_look_loses_a_wake_up() {
    explore(3, || sleep(Fault::NoSecondLook, 1));
}
