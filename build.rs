//! The migrations, the SQL functions and the book are embedded in the binary, so a change of their
//! folders has to rebuild it.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-changed=sql/functions");
    println!("cargo:rerun-if-changed=docs/book");
}
