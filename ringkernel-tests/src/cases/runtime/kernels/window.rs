//! window_zscore: scores and state, call after call.

use fastrand::Rng;
use gpubridge_abstractions::{ComputeMessage, ErrorKind, KernelSpec, Parameters, Status};
use gpubridge_kernels::id::WINDOW_ZSCORE;
use gpubridge_kernels::library::window_zscore::state_elements;

use super::lab::Lab;
use crate::Context;
use crate::call::draw::{SPECIAL, plain};
use crate::call::{Call, OUTPUT};

fn spec(window: usize) -> KernelSpec {
    KernelSpec::new(WINDOW_ZSCORE).with_constants([window as u32, 0])
}

/// A call over this state.
fn call(window: usize, state: &[u32], x: f32) -> Call {
    Call::new(spec(window)).buffer(OUTPUT, state).scalar(x)
}

/// A state of no values, with elements behind it that are not its own.
fn empty(window: usize) -> Vec<u32> {
    let mut state = vec![0; state_elements(window as u32) as usize];
    state.extend([0xfeed_beef; 5]);
    state
}

/// The state that so many values leave.
fn filled(window: usize, values: &[f32]) -> Vec<u32> {
    let mut state = empty(window);
    for (at, x) in values.iter().enumerate().skip(values.len().saturating_sub(window)) {
        state[2 + at % window] = x.to_bits();
    }
    state[0] = values.len().min(window) as u32;
    state[1] = (values.len() % window) as u32;
    state
}

/// Puts values through a window in device memory, one call each, and through the twin; scores and states must agree.
fn stream(lab: &Lab, window: usize, values: &[f32]) {
    let kernel = lab.kernel(spec(window));
    let mut state = empty(window);
    for x in values {
        let call = call(window, &state, *x);
        lab.agree(&call);
        let [_, _, after] = call.on_host(kernel).buffers;
        state = after;
    }
}

/// Goal: scores are within 1e-3 of the twin's. Method: windows of 2 to 100 through several laps; values that vary,
/// drift, alternate, and lie far from zero.
pub fn window_scores_agree(context: &Context) {
    let (lab, mut rng) = (Lab::new(context), Rng::with_seed(71));
    for window in [2, 3, 4, 7, 8, 9, 31, 32, 33, 63, 64, 65, 100] {
        let values: Vec<f32> = plain(&mut rng, 2 * window + 9);
        stream(&lab, window, &values);
        stream(&lab, window, &values.iter().map(|x| 1e5 + x).collect::<Vec<_>>());
    }
    let alternating: Vec<f32> = (0..40).map(|at| if at % 2 == 0 { 1e30 } else { -9.9e29 }).collect();
    let drifting: Vec<f32> = (0..40).map(|at| at as f32 * 1e28).collect();
    let one_far_off: Vec<f32> = (0..40).map(|at| if at == 16 { 1e30 } else { (at % 5) as f32 }).collect();
    for values in [alternating, drifting, one_far_off, vec![-1e30; 20]] {
        stream(&lab, 16, &values);
    }
}

/// Goal: the state stays in device memory from call to call. Method: three states take turns for three laps; nothing is
/// written between the calls, and at the end the states are compared.
pub fn window_state_is_carried(context: &Context) {
    const WINDOW: usize = 64;
    let (lab, mut rng) = (Lab::new(context), Rng::with_seed(72));
    let ids = [(); 3].map(|()| lab.rig.allocate(lab.session, 4 * state_elements(WINDOW as u32)));
    let values = [(); 3].map(|()| plain::<f32>(&mut rng, 3 * WINDOW + 5));
    for at in 0..values[0].len() {
        for (id, values) in ids.iter().zip(&values) {
            let message = ComputeMessage::new(lab.rig.memory.envelope(), spec(WINDOW), None, Some(*id));
            let message = ComputeMessage { parameters: Parameters::new().with_f32(values[at]), ..message };
            let response = lab.rig.memory.compute(lab.session, &message).wait().expect("is answered");
            assert!(response.success && response.result.len_bytes() == 4, "{response:?}");
        }
    }
    for (id, values) in ids.iter().zip(&values) {
        let mut want = filled(WINDOW, values);
        want.truncate(state_elements(WINDOW as u32) as usize);
        let got = lab.rig.read(lab.session, *id, want.len() * 4);
        assert!(got == bytemuck::cast_slice::<u32, u8>(&want), "the state after {} values differs", values.len());
    }
}

/// Goal: windows from 2 to 65,536. Method: the largest at the turns of its laps, from states that so many values leave;
/// those one below and above a device's blocks; what is no window does not compile.
pub fn window_constants_at_their_limits(context: &Context) {
    let (lab, mut rng) = (Lab::new(context), Rng::with_seed(73));
    for window in [2, 255, 256, 257, 1023, 1024, 1025, 65_535, 65_536] {
        let values: Vec<f32> = plain::<f32>(&mut rng, 2 * window + 2).iter().map(|x| 1e3 + x).collect();
        for at in [0, 1, 2, 3, window - 1, window, window + 1, 2 * window - 1, 2 * window, 2 * window + 1] {
            lab.agree(&call(window, &filled(window, &values[..at]), values[at]));
        }
    }
    for window in [0, 1, 65_537, 1 << 31] {
        let (_, error) = lab.refused(&call(window, &[0; 70], 1.0));
        assert_eq!(error.kind(), ErrorKind::KernelBuild, "{error}");
        assert!(error.message().contains("window is not between 2 and 65536"), "{error}");
    }
}

/// Goal: an x that is not finite does not join a window; every other does. Method: each special value, and the largest.
pub fn window_refuses_what_is_not_finite(context: &Context) {
    let lab = Lab::new(context);
    let state = filled(8, &[1.0, 2.0, 3.0]);
    for x in SPECIAL {
        if x.is_finite() {
            lab.agree(&call(8, &state, x));
        } else {
            let (status, error) = lab.refused(&call(8, &state, x));
            assert_eq!(status, Some(Status::InvalidArgument));
            assert!(error.message().contains("x is not finite"), "{error}");
        }
    }
    // A score beyond f32 is an infinity.
    lab.agree(&call(2, &filled(2, &[-2e-6, 2e-6]), f32::MAX));
    let (_, error) = lab.refused(&call(8, &state[..9], 1.0));
    assert!(error.message().contains("output holds fewer elements"), "{error}");
}
