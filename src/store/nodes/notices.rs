//! The notifications that nodes send each other.

use uuid::Uuid;

use crate::{
    domain::{
        api_key::KeyTag,
        id::{NodeId, TenantId},
        key_group::KeyGroup,
    },
    store::{
        WindowTag,
        changes::{ChangeId, ChangeKind},
    },
};

/// The first word of a recall: `recall <node> <number> <any> <tag>,<tag>…`. It is not a kind of
/// change, because it makes no node refuse a request.
pub(in crate::store) const RECALL: &str = "recall";

/// A notification that a node receives, in the order of commits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// These keys changed. The node that changed them may be waiting for an acknowledgement.
    Changed { tags: Vec<KeyTag>, acknowledge: Option<ChangeId> },
    /// All keys of this group may have changed, because their tenant changed.
    GroupChanged { group: KeyGroup, acknowledge: Option<ChangeId> },
    /// Any object may have changed, such as the rate limits of a tenant. A node applies this by
    /// dropping all cached data.
    Everything { acknowledge: Option<ChangeId> },
    /// Another node recalls unspent calls of these windows, and may be waiting for an
    /// acknowledgement.
    Recalled { tags: Vec<WindowTag>, acknowledge: Option<ChangeId> },
    /// The renewal with this number arrived, so the node has received all notifications of earlier
    /// commits.
    Renewed(i64),
}

/// A notification for one node only.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum OwnNotice {
    /// A renewal of this node.
    Renewed(i64),
    /// Another node has applied a change that this node made.
    Applied { by: NodeId, number: u64 },
}

/// Parses a notification for all nodes: `<kind> <node> <number> <tenant> <tag>,<tag>…`, or `all`.
/// The node `own` does not acknowledge its own changes.
///
/// A node of a newer version may send a kind that this version does not know, or add words. The
/// newer node waits for an acknowledgement of such a change, so this node applies the change by
/// dropping all cached data.
pub(super) fn notice(payload: &str, own: NodeId) -> Notice {
    let words: Vec<&str> = payload.splitn(5, ' ').collect();
    let [kind, node, number, tenant, rest @ ..] = &words[..] else {
        return Notice::Everything { acknowledge: None };
    };
    let (Some(node), Ok(number)) = (read_node(node), number.parse::<u64>()) else {
        return Notice::Everything { acknowledge: None };
    };
    let acknowledge = (number != 0 && node != own).then_some(ChangeId { node, number });
    if *kind == RECALL
        && let Some(tags) = rest.first().and_then(|rest| read_tags(rest, WindowTag))
    {
        return if node == own {
            Notice::Recalled { tags: Vec::new(), acknowledge: None }
        } else {
            Notice::Recalled { tags, acknowledge }
        };
    }
    if *kind == ChangeKind::Tenant.as_str()
        && let (Some(tenant), []) = (read_tenant(tenant), rest)
    {
        return Notice::GroupChanged { group: KeyGroup::of_tenant(tenant), acknowledge };
    }
    match changed_keys(kind, rest.first().copied()) {
        Some(tags) => Notice::Changed { tags, acknowledge },
        None => Notice::Everything { acknowledge },
    }
}

/// Parses a notification for this node: `renewed <number>` or `applied <node> <number>`.
pub(super) fn own_notice(payload: &str) -> Option<OwnNotice> {
    let words: Vec<&str> = payload.split(' ').collect();
    match words[..] {
        ["renewed", number] => Some(OwnNotice::Renewed(number.parse().ok()?)),
        ["applied", node, number] => {
            Some(OwnNotice::Applied { by: read_node(node)?, number: number.parse().ok()? })
        }
        _ => None,
    }
}

/// Parses the tags of the keys that a change of this kind affects. Returns `None` if the change may
/// affect any key, if this version does not know the kind, or if it cannot parse
/// the words after the tenant.
fn changed_keys(kind: &str, rest: Option<&str>) -> Option<Vec<KeyTag>> {
    let tags = |text: &str| read_tags(text, KeyTag::from_bits);
    match kind.parse::<ChangeKind>().ok()? {
        ChangeKind::Keys | ChangeKind::Account => rest.map_or(Some(Vec::new()), tags),
        ChangeKind::Limits => rest.and_then(tags),
        // Admin keys and sessions are read for each request, so nothing is cached.
        ChangeKind::AdminKey | ChangeKind::Sessions => rest.is_none().then(Vec::new),
        // `notice` has parsed this kind, unless it is malformed.
        ChangeKind::Tenant => None,
    }
}

fn read_tags<T>(text: &str, tag: impl Fn(u64) -> T) -> Option<Vec<T>> {
    text.split(',').map(|text| u64::from_str_radix(text, 16).ok().map(&tag)).collect()
}

fn read_tenant(text: &str) -> Option<TenantId> {
    Uuid::try_parse(text).ok().map(TenantId::from_uuid)
}

fn read_node(text: &str) -> Option<NodeId> {
    Uuid::try_parse(text).ok().map(NodeId::from_uuid)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The node, the number and the tenant of a change by node 2.
    const CHANGE: &str = "00000000000000000000000000000002 9 0193f0a9d1b87e2c8a3b5c6d7e8f9a0b";

    fn node(number: u128) -> NodeId {
        NodeId::from_uuid(Uuid::from_u128(number))
    }

    /// Returns the notice that node 1 parses from a notification for all nodes.
    fn heard(payload: &str) -> Notice {
        notice(payload, node(1))
    }

    fn acknowledgement() -> Option<ChangeId> {
        Some(ChangeId { node: node(2), number: 9 })
    }

    fn changed(tags: &[u64], acknowledge: Option<ChangeId>) -> Notice {
        let tags = tags.iter().copied().map(KeyTag::from_bits).collect();
        Notice::Changed { tags, acknowledge }
    }

    #[test]
    fn notice_of_a_change_contains_the_tags_of_its_keys() {
        for kind in ["keys", "account", "limits"] {
            let one = format!("{kind} {CHANGE} 00000000000000ff");
            assert_eq!(heard(&one), changed(&[255], acknowledgement()));
            let two = format!("{kind} {CHANGE} 00000000000000ff,ffffffffffffffff");
            assert_eq!(heard(&two), changed(&[255, u64::MAX], acknowledgement()));
        }
        for kind in ["keys", "account"] {
            assert_eq!(heard(&format!("{kind} {CHANGE}")), changed(&[], acknowledgement()));
        }
    }

    #[test]
    fn change_to_rate_limits_without_keys_invalidates_everything() {
        let everything = Notice::Everything { acknowledge: acknowledgement() };
        assert_eq!(heard(&format!("limits {CHANGE}")), everything);
    }

    #[test]
    fn change_to_an_admin_key_or_session_invalidates_no_api_key() {
        for kind in ["admin_key", "sessions"] {
            let nothing = changed(&[], acknowledgement());
            assert_eq!(heard(&format!("{kind} {CHANGE}")), nothing);
        }
    }

    #[test]
    fn change_to_a_tenant_invalidates_the_group_of_its_keys() {
        let tenant =
            TenantId::from_uuid(Uuid::from_u128(0x0193_f0a9_d1b8_7e2c_8a3b_5c6d_7e8f_9a0b));
        let group = KeyGroup::of_tenant(tenant);
        let changed = Notice::GroupChanged { group, acknowledge: acknowledgement() };
        assert_eq!(heard(&format!("tenant {CHANGE}")), changed);
    }

    #[test]
    fn node_acknowledges_only_changes_that_another_node_waits_for() {
        let keys = format!("keys {CHANGE} 1");
        assert_eq!(notice(&keys, node(2)), changed(&[1], None));
        assert_eq!(heard(&keys.replace(" 9 ", " 0 ")), changed(&[1], None));
        let unknown = format!("unknown {CHANGE}");
        assert_eq!(notice(&unknown, node(2)), Notice::Everything { acknowledge: None });
    }

    #[test]
    fn change_that_this_version_cannot_parse_is_acknowledged() {
        for (kind, rest) in [
            ("unknown", ""),
            ("unknown", " any words"),
            ("", ""),
            ("keys", " "),
            ("keys", " 1,"),
            ("keys", " not-a-tag"),
            ("keys", " 1 2"),
            ("account", " 1 word"),
            ("limits", " not-a-tag"),
            ("admin_key", " 1"),
            ("sessions", " word"),
            ("tenant", " word"),
        ] {
            let everything = Notice::Everything { acknowledge: acknowledgement() };
            assert_eq!(heard(&format!("{kind} {CHANGE}{rest}")), everything, "{kind}{rest}");
        }
    }

    #[test]
    fn unparsable_notice_invalidates_everything() {
        for payload in [
            "all",
            "",
            "keys",
            "keys 00000000000000000000000000000002",
            "keys 00000000000000000000000000000002 9",
            "keys node 9 tenant 1",
            "tenant 00000000000000000000000000000002 0 not-a-tenant",
            "keys 00000000000000000000000000000002 nine tenant 1",
            "keys 00000000000000000000000000000002 -1 tenant 1",
        ] {
            let everything = Notice::Everything { acknowledge: None };
            assert_eq!(heard(payload), everything, "{payload}");
        }
    }

    #[test]
    fn notices_for_one_node_are_renewals_and_acknowledgements() {
        assert_eq!(own_notice("renewed 7"), Some(OwnNotice::Renewed(7)));
        let applied = "applied 00000000000000000000000000000002 9";
        assert_eq!(own_notice(applied), Some(OwnNotice::Applied { by: node(2), number: 9 }));
        for payload in ["", "renewed", "renewed x", "applied x 9", "applied 9", "unknown 7"] {
            assert_eq!(own_notice(payload), None, "{payload}");
        }
    }
}
