//! The notifications that nodes send each other.

use uuid::Uuid;

use crate::{
    domain::{api_key::KeyTag, id::NodeId},
    store::changes::ChangeId,
};

/// A notification that a node receives, in the order of commits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// These keys changed. The node that changed them may wait for an acknowledgement.
    Changed { tags: Vec<KeyTag>, acknowledge: Option<ChangeId> },
    /// Anything may have changed.
    Everything,
    /// The renewal with this number: all notifications of earlier commits were received.
    Renewed(i64),
}

#[derive(PartialEq, Eq, Debug)]
pub(super) enum Heard {
    Notice(Notice),
    Applied { by: NodeId, number: u64 },
}

/// Parses a notification for all nodes: `all`, or `<node> <number> <tag>,<tag>…`.
pub(super) fn notice(payload: &str) -> Option<Heard> {
    if payload == "all" {
        return Some(Heard::Notice(Notice::Everything));
    }
    let mut words = payload.split(' ');
    let (node, number, tags) = (words.next()?, words.next()?, words.next()?);
    let change = ChangeId { node: read_node(node)?, number: number.parse().ok()? };
    let tag = |text| u64::from_str_radix(text, 16).ok().map(KeyTag::from_bits);
    let tags = tags.split(',').map(tag).collect::<Option<_>>()?;
    let acknowledge = (change.number != 0).then_some(change);
    words.next().is_none().then_some(Heard::Notice(Notice::Changed { tags, acknowledge }))
}

/// Parses a notification for this node: `renewed <number>` or `applied <node> <number>`.
pub(super) fn own_notice(payload: &str) -> Option<Heard> {
    let words: Vec<&str> = payload.split(' ').collect();
    match words[..] {
        ["renewed", number] => Some(Heard::Notice(Notice::Renewed(number.parse().ok()?))),
        ["applied", node, number] => {
            Some(Heard::Applied { by: read_node(node)?, number: number.parse().ok()? })
        }
        _ => None,
    }
}

fn read_node(text: &str) -> Option<NodeId> {
    Uuid::try_parse(text).ok().map(NodeId::from_uuid)
}
