//! How the shared library is linked: dlclose(3) leaves it where it is.
//!
//! Signal handlers, threads that resolve names and the ends of threads run its code after a program
//! has let it go, and nobody can tell when the last of them is through.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let os = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if matches!(
        os.as_str(),
        "linux" | "android" | "freebsd" | "netbsd" | "openbsd" | "dragonfly"
    ) {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
