//! Processor, memory, open files, environment.

use freshet_config::Config;
use freshet_operators::index::multi::maxsim::Kernel;

use super::{Finding, size};

/// Memory below which indexes of any size do not fit beside a model.
const MEMORY_MIN: u64 = 1 << 30;
/// Open files below which a busy pipeline may run out of them.
const FILES_MIN: u64 = 1024;

pub(super) fn examine(config: Option<&Config>, note: &mut impl FnMut(Finding)) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    note(instructions());
    note(threads(config, cores));
    if let Some(finding) = memory() {
        note(finding);
    }
    if let Some(finding) = files() {
        note(finding);
    }
    note(other_threads());
}

/// Which instructions late interaction is computed with.
fn instructions() -> Finding {
    let what = "instructions";
    let kernel = Kernel::best();
    let found = format!("MaxSim by {kernel:?}").to_lowercase().replace("maxsim", "MaxSim");
    match kernel {
        Kernel::Plain => {
            let mend = "late interaction is some ten times as fast on a processor with AVX2 or AVX-512 VNNI";
            Finding::warning(what, found, mend)
        }
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx2 => Finding::ok(what, found),
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx512 => Finding::ok(what, found),
    }
}

fn threads(config: Option<&Config>, cores: usize) -> Finding {
    let what = "cores";
    let Some(config) = config else { return Finding::ok(what, cores.to_string()) };
    let (workers, embedding) = (config.pipeline.workers.get(), config.embedding.threads.get());
    let found = format!("{cores}; pipeline.workers = {workers}, embedding.threads = {embedding}");
    if workers > cores || embedding > cores {
        Finding::warning(
            what,
            found,
            "more workers or embedding threads than cores slow each other down: lower them",
        )
    } else {
        Finding::ok(what, found)
    }
}

/// A line of a file of the system, such as `MemAvailable:  123 kB`, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

fn memory() -> Option<Finding> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let (all, free) = (kilobytes(&text, "MemTotal")?, kilobytes(&text, "MemAvailable")?);
    let found = format!("{} free of {}", size(free), size(all));
    Some(match free {
        free if free < MEMORY_MIN => Finding::warning(
            "memory",
            found,
            format!("leave at least {} free: a model, and the indexes", size(MEMORY_MIN)),
        ),
        _ => Finding::ok("memory", found),
    })
}

fn files() -> Option<Finding> {
    let text = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let soft = line.split_whitespace().next()?;
    let few = soft.parse::<u64>().is_ok_and(|soft| soft < FILES_MIN);
    Some(if few {
        let mend = format!(
            "ulimit -n {FILES_MIN}, or LimitNOFILE= of the service: connections and partitions take one each"
        );
        Finding::warning("open files", soft, mend)
    } else {
        Finding::ok("open files", soft)
    })
}

/// Threads that libraries start by themselves compete with the workers.
fn other_threads() -> Finding {
    let what = "threads of libraries";
    let many: Vec<String> = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"]
        .iter()
        .filter_map(|name| Some((name, std::env::var(name).ok()?)))
        .filter(|(_, value)| value.parse::<usize>().is_ok_and(|count| count > 1))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    match many.is_empty() {
        true => Finding::ok(what, "as they should be"),
        false => Finding::warning(
            what,
            many.join(", "),
            "unset them: workers and embedding threads use the cores already",
        ),
    }
}
