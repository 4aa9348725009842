//! Why a model or the service cannot be had.

use std::path::PathBuf;

/// Why a model or the service cannot be had. Texts that fail are not errors: they are results.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbedError {
    /// No folder of this model anywhere.
    #[error("model \"{name}\" not found; looked in: {}; {hint}", looked.join(", "))]
    NotFound {
        /// Name as configured.
        name: String,
        /// Every place, in the order of looking.
        looked: Vec<String>,
        /// What to run or to write.
        hint: String,
    },
    /// A file that is there and cannot be read.
    #[error("cannot read \"{}\"", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A folder or a file that is not what a model needs.
    #[error("model in \"{}\" does not fit: found {found}, expected {expected}", path.display())]
    Misfit {
        /// Folder or file.
        path: PathBuf,
        /// What is there.
        found: String,
        /// What should be there.
        expected: String,
    },
    /// ONNX Runtime itself cannot be loaded.
    #[error(
        "ONNX Runtime 1.22 or newer cannot be loaded: {reason}; looked in: {}; run scripts/setup.sh, or set \
         ORT_DYLIB_PATH to libonnxruntime.so",
        looked.join(", ")
    )]
    Runtime {
        /// What the loader says.
        reason: String,
        /// Every place, in the order of looking.
        looked: Vec<String>,
    },
    /// ONNX Runtime refused a model.
    #[error("onnx runtime cannot {what} \"{}\"", path.display())]
    Onnx {
        /// What was tried.
        what: &'static str,
        /// The model file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: ort::Error,
    },
    /// The hub could not be asked, or refused.
    #[error("cannot fetch \"{file}\" of model \"{name}\": {reason}")]
    Fetch {
        /// Name of the model.
        name: String,
        /// File in the repository.
        file: String,
        /// What went wrong, with a hint.
        reason: String,
    },
    /// A thread could not be started.
    #[error("cannot start thread \"{name}\"")]
    Thread {
        /// Its name.
        name: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Metrics could not be made or registered.
    #[error("cannot register the metrics of the embedding service")]
    Metrics(#[from] prometheus::Error),
}
