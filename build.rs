//! What the schema is made of is embedded in the binary: a new file there makes it stale.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-changed=sql/functions");
}
