//! What the program has its process do for the GPU's driver, first of all and last of all; nothing of it without CUDA.

#[cfg(feature = "cuda")]
mod with_cuda {
    use std::time::Duration;

    use gpubridge::cuda;

    use crate::program::error::EXIT_FAILED;

    /// How long the program may take to say what has become of it once the device is lost.
    const AFTER_LOSS: Duration = Duration::from_secs(60);

    pub fn begin() {
        cuda::request_eager_loading();
        cuda::end_process_when_lost(AFTER_LOSS, EXIT_FAILED);
    }

    pub use cuda::exit;

    /// How the driver loads kernels, for whoever asks what there is.
    pub fn loading() -> Option<&'static str> {
        let eager = cuda::loads_eagerly().ok()?;
        Some(if eager {
            "with their module"
        } else {
            "when they are first used, under a ring perhaps: set CUDA_MODULE_LOADING=EAGER"
        })
    }
}

#[cfg(not(feature = "cuda"))]
mod with_cuda {
    pub fn begin() {}

    pub fn exit(code: u8) -> ! {
        std::process::exit(code.into())
    }

    pub fn loading() -> Option<&'static str> {
        None
    }
}

pub use with_cuda::{begin, exit, loading};
