//! Threads whose work can wait: they build indexes and write snapshots while others take in documents and answer.

/// What is added to the niceness of such a thread: where cores are short it gets a third of the share of one that answers.
/// More, and builds would fall so far behind on a busy machine that more is searched exactly.
#[cfg(target_os = "linux")]
const NICER: i32 = 5;

/// Starts a thread of the background. Threads that it starts in turn, such as those of OpenMP in FAISS, are of the background, too.
///
/// # Errors
/// The system refusing a thread.
pub(crate) fn spawn(
    name: String,
    work: impl FnOnce() + Send + 'static,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(move || {
        // Linux counts niceness by thread; elsewhere this would be the whole process. Who may not change it does
        // without: the work is the same.
        #[cfg(target_os = "linux")]
        let _ = rustix::process::nice(NICER);
        work();
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_the_thread_and_its_children_come_later() {
        let niceness = || rustix::process::getpriority_process(None).expect("a niceness");
        let before = niceness();
        let (sender, seen) = std::sync::mpsc::channel();
        let work = move || {
            let of_child = std::thread::spawn(niceness).join().expect("no panic");
            sender.send((niceness(), of_child)).expect("somebody who listens");
        };
        spawn("later".into(), work).expect("a thread").join().expect("no panic");
        let later = (before + NICER).min(19);
        assert_eq!(seen.recv(), Ok((later, later)));
        assert_eq!(niceness(), before);
    }
}
