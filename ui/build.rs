//! Rebuilds the server when the console's bundle changes. A missing bundle is fine: the server then says how to build it.
use std::path::Path;

fn main() {
    // Cargo takes a path that is not there as changed every time; the folder around it changes when the bundle comes.
    let watched = if Path::new("ui/dist").exists() { "ui/dist" } else { "ui" };
    println!("cargo:rerun-if-changed={watched}");
}
