/// An environment variable without a flag.
pub struct Variable {
    pub name: &'static str,
    /// The description of its value, in whole sentences.
    pub help: &'static str,
}
