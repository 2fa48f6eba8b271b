//! The binary embeds the migrations, the SQL functions and the book. So Cargo must rebuild the
//! binary if these folders change.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-changed=sql/functions");
    println!("cargo:rerun-if-changed=docs/book");
}
