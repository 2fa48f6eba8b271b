/// A variable of the environment that has no flag.
pub struct Variable {
    pub name: &'static str,
    /// What it sets, in whole sentences.
    pub help: &'static str,
}
