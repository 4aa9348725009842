//! Compiles what FAISS' C API lacks; see `src/index/dense/shim.cpp`.

use std::env;
use std::path::PathBuf;

fn main() {
    // faiss-sys says where it has installed FAISS' headers (`links = "faiss_c"`).
    let root = PathBuf::from(env::var("DEP_FAISS_C_ROOT").expect("faiss-sys built with \"static\""));
    println!("cargo:rerun-if-changed=src/index/dense/shim.cpp");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(3)
        .flag_if_supported("-fopenmp")
        .flag_if_supported("-Wno-unused-parameter")
        .include(root.join("include"))
        .file("src/index/dense/shim.cpp")
        .compile("freshet_faiss");
}
