//! ONNX Runtime: found and loaded once per process.

use std::path::PathBuf;
use std::sync::OnceLock;

use ort::environment::Environment;

use super::EmbedError;
use super::locate::roots;

/// Name of the shared library.
const LIBRARY: &str = if cfg!(target_os = "macos") {
    "libonnxruntime.dylib"
} else if cfg!(windows) {
    "onnxruntime.dll"
} else {
    "libonnxruntime.so"
};

/// Loaded once; kept until the process ends, because ONNX Runtime allows one environment per process.
static ENVIRONMENT: OnceLock<Result<Environment, (String, Vec<String>)>> = OnceLock::new();

/// The process's ONNX Runtime, loaded at the first call.
///
/// Looked for in `$ORT_DYLIB_PATH` (nowhere else if it is set), beside the executable and in `vendor/onnxruntime` of
/// the executable's folder, its three parents and the current folder, then by the system's loader.
pub fn environment() -> Result<Environment, EmbedError> {
    match ENVIRONMENT.get_or_init(start) {
        Ok(environment) => Ok(environment.clone()),
        Err((reason, looked)) => Err(EmbedError::Runtime { reason: reason.clone(), looked: looked.clone() }),
    }
}

fn start() -> Result<Environment, (String, Vec<String>)> {
    let (library, looked) = library();
    // Telemetry is for Windows builds only; off all the same.
    let built = ort::init_from(&library).map_err(|error| error.to_string()).and_then(|builder| {
        builder.with_name("freshet").with_telemetry(false).build().map_err(|e| e.to_string())
    });
    built.map_err(|reason| (reason, looked))
}

/// The library to load, and the places asked for it.
fn library() -> (PathBuf, Vec<String>) {
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        return (path.clone(), vec![format!("$ORT_DYLIB_PATH = {}", path.display())]);
    }
    let mut looked = Vec::new();
    for root in roots() {
        for candidate in [root.join(LIBRARY), root.join("vendor/onnxruntime").join(LIBRARY)] {
            if candidate.is_file() {
                return (candidate, looked);
            }
            looked.push(candidate.display().to_string());
        }
    }
    looked.push(format!("the system's library path ({LIBRARY})"));
    (PathBuf::from(LIBRARY), looked)
}
