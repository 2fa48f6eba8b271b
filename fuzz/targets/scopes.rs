//! Single scopes, and sets of scopes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::domain::scope::{Scope, ScopeSet};

fuzz_target!(|text: &str| {
    if let Ok(scope) = text.parse::<Scope>() {
        assert_eq!(scope.to_string(), text);
        assert!(scope.implies(&scope));
        assert!(scope.implied_by().contains(&scope));
    }
    if let Ok(scopes) = ScopeSet::parse(text.split(' ')) {
        assert!(scopes.iter().all(|scope| scopes.allows(scope)));
        assert_eq!(ScopeSet::parse(scopes.to_string().split(' ')), Ok(scopes));
    }
});
