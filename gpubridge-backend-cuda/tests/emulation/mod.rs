//! The emulated CUDA driver: builds it, and sees to it that this program finds it. For Linux.
//!
//! With `CXX=clang++-19` and `EMULATION_CXXFLAGS=-fsanitize=thread` it is one for programs that are built with
//! ThreadSanitizer too.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

/// How everything is compiled.
pub const FLAGS: [&str; 10] = [
    "-O2",
    "-std=c++17",
    "-ffp-contract=off",
    "-fPIC",
    "-fvisibility=hidden",
    "-shared",
    "-pthread",
    "-Wall",
    "-Wextra",
    // g++ knows no `#pragma unroll`.
    "-Wno-unknown-pragmas",
];

/// Builds the driver unless the same sources were built before, and returns the folder that it lies in; `None` without a C++
/// compiler, and says so.
///
/// # Panics
///
/// With the compiler's text if the driver does not compile.
pub fn build() -> Option<PathBuf> {
    let Some((compiler, version)) = compiler() else {
        eprintln!(
            "emulated CUDA driver: not built: there is no C++ compiler: neither $CXX nor c++, g++ or clang++ runs"
        );
        return None;
    };
    let sources = sources().expect("the sources of the emulated driver are readable");
    let more_flags = env::var("EMULATION_CXXFLAGS").unwrap_or_default();

    let mut hasher = DefaultHasher::new();
    (&compiler, version, FLAGS, &more_flags).hash(&mut hasher);
    for source in &sources {
        source.hash(&mut hasher);
        fs::read(source).expect("a source of the emulated driver is readable").hash(&mut hasher);
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("emulated-cuda-{:016x}", hasher.finish()));

    // The link is made last: what it leads to is whole. Programs that build at once each put a whole file in its place.
    let link = folder.join("libcuda.so");
    if !link.exists() {
        fs::create_dir_all(&folder).expect("the folder of the emulated driver can be made");
        let unfinished = folder.join(format!("unfinished-{}", process::id()));
        let names = [("CXX", compiler.display().to_string()), ("FOLDER", emulation().display().to_string())];
        let names = names.map(|(name, value)| format!("-DEMULATED_{name}={value:?}"));
        let [cxx, from] = names.each_ref().map(String::as_str);
        let own_name = "-Wl,-soname,libcuda.so.1";
        compile(&compiler, &more_flags, "driver.cpp", &[cxx, from, own_name], &unfinished);
        fs::rename(&unfinished, folder.join("libcuda.so.1")).expect("the emulated driver can be named");
        // What it compiles is not for ThreadSanitizer.
        compile(&compiler, "", "nvrtc.cpp", &[cxx, from], &unfinished);
        fs::rename(&unfinished, folder.join("libnvrtc.so")).expect("the emulated compiler can be named");
        // cudarc asks for this name first: without it, it would take an installed driver.
        symlink("libcuda.so.1", &unfinished).expect("the emulated driver can be linked to");
        fs::rename(&unfinished, &link).expect("the link to the emulated driver can be named");
    }
    Some(folder)
}

/// Has the emulated driver be the one that this program loads, and returns true; false without a C++ compiler.
///
/// To be called first in `main`: the dynamic loader reads `LD_LIBRARY_PATH` as a program starts, so that this one is started
/// anew, in its place and with the same arguments, if the variable does not lead to the driver yet.
///
/// # Panics
///
/// If the driver does not compile, or the program cannot be started anew.
pub fn ensure_loaded() -> bool {
    let Some(folder) = build() else { return false };
    let before = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    if env::split_paths(&before).next().as_ref() == Some(&folder) {
        return true;
    }
    let rest = env::split_paths(&before).filter(|path| !path.as_os_str().is_empty());
    let paths = env::join_paths([folder].into_iter().chain(rest)).expect("the folder's name has no colon in it");
    let program = env::current_exe().expect("the program knows its own file");
    let failed = Command::new(program).args(env::args_os().skip(1)).env("LD_LIBRARY_PATH", paths).exec();
    panic!("cannot start anew with the emulated CUDA driver: {failed}");
}

/// The first that runs, and what it says of its version.
pub fn compiler() -> Option<(OsString, Vec<u8>)> {
    let names = env::var_os("CXX").into_iter().chain(["c++", "g++", "clang++"].map(OsString::from));
    names.filter(|name| !name.is_empty()).find_map(|name| {
        let output = Command::new(&name).arg("--version").output().ok()?;
        output.status.success().then_some((name, output.stdout))
    })
}

/// Where the sources of the emulated driver are.
pub fn emulation() -> PathBuf {
    // From whichever crate of the workspace it is asked for.
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../gpubridge-backend-cuda/tests/emulation")
}

/// Where the kernels' sources are.
pub fn kernels() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernels/cuda")
}

/// What the driver is built from, in the same order each time.
fn sources() -> io::Result<Vec<PathBuf>> {
    let mut sources = Vec::new();
    let mut folders = vec![emulation(), kernels()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if ["cpp", "hpp", "cu", "cuh"].map(OsStr::new).contains(&path.extension().unwrap_or_default()) {
                sources.push(path);
            }
        }
    }
    sources.sort();
    Ok(sources)
}

fn compile(compiler: &OsStr, more_flags: &str, source: &str, own_flags: &[&str], to: &Path) {
    let mut command = Command::new(compiler);
    command.args(FLAGS).args(more_flags.split_whitespace()).args(own_flags);
    command.arg("-I").arg(emulation()).arg("-I").arg(kernels());
    command.arg(emulation().join(source)).arg("-o").arg(to);
    let output = command.output().expect("the C++ compiler runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the emulated CUDA driver does not compile:\n{command:?}\n{text}");
    eprint!("{text}");
}
