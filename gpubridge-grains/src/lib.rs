//! Virtual actors whose state lives in device memory: grains, silo, storage.
