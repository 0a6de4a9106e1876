//! Random sequences of operations against a simple model: see [`crate::models`].

use crate::models::{search_grains, search_resident};
use crate::{Case, Context};

/// All cases of the area.
pub const CASES: &[Case] = crate::cases::table!("models",
    Memory {
        sessions_do_as_the_model => "ResidentMemory/as-if-alone",
        grains_do_as_the_model => "GrainRef/as-if-alone",
    }
    Compute {
        sessions_that_compute_do_as_the_model => "ResidentMemory/as-if-alone",
        grains_that_compute_do_as_the_model => "GrainRef/as-if-alone",
    }
);

/// Goal: whatever several sessions do on two lanes, each finds what a map of byte vectors would hold. Method: random
/// sequences of every operation but computing, with calls in flight.
pub fn sessions_do_as_the_model(context: &Context) {
    search_resident(context, false);
}

/// Goal: the same for sessions that compute. Method: as above, with kernels that write, answer and work in place.
pub fn sessions_that_compute_do_as_the_model(context: &Context) {
    search_resident(context, true);
}

/// Goal: whatever several grains do, through deactivations and restarts, each handle finds what a map of byte vectors
/// would hold. Method: random sequences of every operation but computing, with calls in flight, on one storage.
pub fn grains_do_as_the_model(context: &Context) {
    search_grains(context, false);
}

/// Goal: the same for grains that compute. Method: as above, with kernels that write, answer and work in place.
pub fn grains_that_compute_do_as_the_model(context: &Context) {
    search_grains(context, true);
}
