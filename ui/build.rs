//! Rebuilds the server when the console's bundle changes; a missing bundle is fine (the server then says how to build it).
fn main() {
    println!("cargo:rerun-if-changed=ui/dist");
}
